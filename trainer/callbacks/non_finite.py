"""Ends training when the loss is no longer a number."""

import math
from typing import Any

import keras

from trainer.errors import NonFiniteError


class NonFiniteCallback(keras.callbacks.Callback):
    """Raises before the step's state could be saved."""

    def __init__(self, *, steps_per_epoch: int) -> None:
        super().__init__()
        self._steps_per_epoch = steps_per_epoch
        self._epoch = 0

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        """Remember the epoch for the message."""
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Check one step's loss, which the logs hold already."""
        loss = (logs or {}).get("loss", 0.0)
        if not math.isfinite(loss):
            step = self._epoch * self._steps_per_epoch + batch + 1
            raise NonFiniteError(
                f"loss is {loss} at step {step}: lower the learning rate or look for bad records; "
                "checkpoints before this step are intact"
            )
