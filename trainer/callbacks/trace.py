"""A trace of some steps by TensorFlow's profiler, into the run's folder, for TensorBoard.

It watches and changes nothing. A trace is never worth a training: what goes wrong is a warning.
"""

import shlex
import tempfile
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from trainer.errors import StorageError
from trainer.run.run_dir import PROFILES
from trainer.storage import Storage

MOST_BYTES = 512 << 20


class StepTrace(keras.callbacks.Callback):
    """Takes a trace of the global steps `steps`, counted from 1, or of those left of them.

    Calls of several steps end before and with them (`Schedule.call_ends`), so the trace has just
    these, what callbacks do at them, and a validation pass between them. `start` steps were done
    before this process, `first_step` of them before the first epoch.
    """

    def __init__(
        self, steps: range, to: Storage, log: Any, *, start: int, steps_per_epoch: int,
        first_step: int = 0,
    ) -> None:  # fmt: skip
        super().__init__()
        self._steps = steps
        self._to = to
        self._log = log
        self._done = start
        self._first_step = first_step
        self._steps_per_epoch = steps_per_epoch
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._first = 0
        self._is_over = False

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        """Begin with an epoch's next step, unless all are done and it is only validated."""
        if self._done < self._first_step + (epoch + 1) * self._steps_per_epoch:
            self._begin_if_due()

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        """End with the last step, or begin with the next one."""
        self._done += 1
        if self._done >= self._steps[-1]:
            self._end()
        elif batch + 1 < self._steps_per_epoch:  # else validation would come first
            self._begin_if_due()

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        """Keep what there is when training ends before the last step."""
        if self._done < self._steps[0]:
            self._warn(f"training ended at step {self._done}, before step {self._steps[0]}")
        self._end()

    def close(self) -> None:
        """Leave it when training breaks off: the run, when it goes on, takes another."""
        if self._folder is not None:
            tf.profiler.experimental.stop(save=False)
            self._folder.cleanup()
            self._folder = None

    def _begin_if_due(self) -> None:
        if self._folder is not None or self._is_over or self._done + 1 not in self._steps:
            return
        folder = tempfile.TemporaryDirectory(prefix="trainer-trace-")
        try:
            tf.profiler.experimental.start(folder.name)
        except tf.errors.OpError as error:  # another one is running, as of a TensorBoard callback
            folder.cleanup()
            self._is_over = True
            self._warn(str(error.message))
            return
        self._folder, self._first = folder, self._done + 1

    def _end(self) -> None:
        if self._folder is None:
            return
        folder, self._folder = self._folder, None
        with folder:
            try:
                tf.profiler.experimental.stop()
                self._write(next(Path(folder.name).rglob("*.xplane.pb")))
            except (tf.errors.OpError, StorageError, OSError, StopIteration) as error:
                self._warn(f"{type(error).__name__}: {error}")

    def _write(self, file: Path) -> None:
        size = file.stat().st_size
        if size > MOST_BYTES:
            self._warn(f"it has {size} bytes, of at most {MOST_BYTES}: take fewer steps")
            return
        path = f"{PROFILES}/steps-{self._first}-{self._done}/worker-0.xplane.pb"
        self._to.write(path, file.read_bytes())
        self._log.info(
            "trace", first=self._first, last=self._done, megabytes=round(size / 1e6, 2),
            url=f"{self._to.url}/{path}",
            look_at_it=f"tensorboard --logdir {shlex.quote(self._to.url)}",
        )  # fmt: skip

    def _warn(self, reason: str) -> None:
        self._log.warning("no trace", reason=reason)
