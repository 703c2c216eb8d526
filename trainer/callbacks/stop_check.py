"""Refuses to end training where the place would depend on the machine's speed."""

from collections.abc import Sequence
from typing import Any

import keras

from trainer.errors import ConfigError


class StopCheck(keras.callbacks.Callback):
    """For calls of several steps, of which hooks learn when all of them have run.

    How many they are follows from measured times, so a stop after one of them would come now
    after this step and now after that one. `suspects` are the callbacks with hooks of steps.
    """

    def __init__(self, suspects: Sequence[Any]) -> None:
        super().__init__()
        self._names = " or ".join(type(callback).__name__ for callback in suspects)

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        """Look at what the callbacks before this one have decided."""
        if self.model.stop_training:
            raise ConfigError(
                f"{self._names} ended training after step {batch + 1} of an epoch, while several "
                "steps run in one call: set train.steps_per_call=1 and go on from the last "
                "checkpoint, or let it stop in on_epoch_end"
            )
