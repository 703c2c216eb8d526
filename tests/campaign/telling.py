"""A callback that tells where a training is; what the log tells already, it leaves out."""

from typing import Any

import keras

from trainer.log import get_log


class Telling(keras.callbacks.Callback):
    """Says `validation` when a pass begins, and `saving` where a save inside of an epoch is due."""

    reads_logs_only = True

    def __init__(self, every_steps: int) -> None:
        super().__init__()
        self._every_steps = every_steps
        self._epoch = 0

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        step = self._epoch * self.params["steps"] + batch + 1
        if step % self._every_steps == 0:
            get_log().info("saving", step=step)

    def on_test_begin(self, logs: dict[str, Any] | None = None) -> None:
        get_log().info("validation")
