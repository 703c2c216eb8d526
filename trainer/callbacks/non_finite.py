"""Ends training when the loss, or gradients whatever their scale, are no longer numbers."""

import math
from collections import deque
from typing import Any

import keras

from trainer.errors import NonFiniteError
from trainer.steps import CallResult

# Losses are scaled by 2**15 to begin with. Gradients that are still infinite here were so before.
_LEAST_SCALE = 1e-4


class NonFiniteCallback(keras.callbacks.Callback):
    """Raises before the step's state could be saved; `on_call` is the loop's, once a call."""

    def __init__(self, *, steps_per_epoch: int) -> None:
        super().__init__()
        self._steps_per_epoch = steps_per_epoch
        self._epoch = 0
        self._overflowed_at: deque[float] = deque()

    def on_call(self, result: CallResult) -> None:
        """Remember at which loss scale steps were skipped, until their hooks are called."""
        if result.overflowed_at is not None:
            self._overflowed_at = deque(map(float, result.overflowed_at))

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        """Remember the epoch for the message."""
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Check one step's loss, which the logs hold already, and why it was skipped if it was."""
        loss = (logs or {}).get("loss", 0.0)
        step = self._epoch * self._steps_per_epoch + batch + 1
        if not math.isfinite(loss):
            raise NonFiniteError(
                f"loss is {loss} at step {step}: lower the learning rate or look for bad records; "
                "checkpoints before this step are intact, and trainer debug RUN_DIR looks into "
                "the steps after the last of them"
            )
        scale = self._overflowed_at.popleft() if self._overflowed_at else 0.0
        if 0 < scale < _LEAST_SCALE:
            raise NonFiniteError(
                f"gradients are not finite at step {step}, at a loss scale of {scale:.1g}: it is "
                "not the scale that overflows; look for what has no finite gradient, or use "
                "train.precision=mixed_bfloat16"
            )
