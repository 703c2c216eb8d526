"""The callbacks of one life of a worker: ours, the recipe's, and those of the configuration."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import keras
from keras import callbacks as keras_callbacks

from trainer.callbacks.catalog import make_callback
from trainer.callbacks.metrics import MetricsCallback
from trainer.callbacks.non_finite import NonFiniteCallback
from trainer.callbacks.progress import ProgressBar, ProgressEvents
from trainer.callbacks.run_info import KnowsRun, RunInfo
from trainer.callbacks.stop_check import StopCheck
from trainer.callbacks.trace import StepTrace
from trainer.checkpoint.format import Manifest
from trainer.checkpoint.position import Schedule
from trainer.compiled_steps import CallResult
from trainer.config import RunConfig
from trainer.data.order import Order
from trainer.errors import ConfigError
from trainer.metrics import Metrics
from trainer.pictures.picture import Picture
from trainer.storage import Storage
from trainer.user_code import user_code

# They only read logs, so that steps may run several a call.
_READ_LOGS = (
    keras_callbacks.CSVLogger,
    keras_callbacks.History,
    keras_callbacks.TensorBoard,
    keras_callbacks.TerminateOnNaN,
)


# They only write files: not for workers beside the chief, nor for who looks at a model.
_WRITERS = (
    keras_callbacks.CSVLogger,
    keras_callbacks.ModelCheckpoint,
    keras_callbacks.RemoteMonitor,
    keras_callbacks.TensorBoard,
)


class Reporting:
    """Our own callbacks: metrics, progress, the check for NaN, and a trace of some steps.

    traces: the run's folder, on the worker that takes a trace.
    """

    def __init__(
        self, *, metrics: Metrics, log: Any, console: Any, config: RunConfig, order: Order,
        start: int, schedule: Schedule, traces: Storage | None = None,
    ) -> None:  # fmt: skip
        self._log = log
        batch_size = config.data.batch_size
        self._metrics = MetricsCallback(
            metrics, batch_size=batch_size, num_records=order.num_records,
            steps_per_epoch=order.steps_per_epoch,
        )  # fmt: skip
        start, target = (schedule.first_step + step for step in (start, schedule.target_step))
        self._metrics.start(start, target)
        self._progress: Any = (
            ProgressEvents(
                log, batch_size=batch_size, start=start, target=target,
                every_seconds=config.log.every_seconds,
            )
            if console is None
            else ProgressBar(console, log, batch_size=batch_size, start=start, target=target)
        )  # fmt: skip
        # Metrics first: they count the step that NonFinite then refuses.
        self._non_finite = NonFiniteCallback(steps_per_epoch=order.steps_per_epoch)
        self.first = [self._metrics, self._non_finite]
        self.last = [self._progress]
        self._trace: StepTrace | None = None
        if traces is not None and config.train.profile is not None:
            steps = config.train.profile.steps
            self._trace = StepTrace(
                steps, traces, log, start=start, first_step=schedule.first_step,
                steps_per_epoch=order.steps_per_epoch,
            )  # fmt: skip
            self.last.append(self._trace)

    def on_call(self, result: CallResult) -> None:
        """The loop's steps of one call."""
        self._metrics.on_call(result)
        self._non_finite.on_call(result)

    def on_saved(self, manifest: Manifest, seconds: float) -> None:
        """A checkpoint was committed; called by the saving thread."""
        self._log.info(
            "checkpoint", step=manifest.step, megabytes=round(manifest.num_bytes / 1e6, 2),
            seconds=round(seconds, 3), sha256=manifest.sha256[:12],
        )  # fmt: skip

    def close(self) -> None:
        """Give the terminal back, and leave a trace that did not come to its end."""
        self._progress.close()
        if self._trace is not None:
            self._trace.close()


@dataclass(frozen=True)
class Chosen:
    """`all` in the order in which their hooks run; `resumable` have their state saved.

    `is_step_by_step`: a call is one step, because it was asked for, or because one of them wants
    the weights of exactly its step. `appends`: one adds to a file from before the run.
    """

    all: list[Any]
    resumable: list[Any]
    history: Any
    is_step_by_step: bool
    appends: bool


def choose_callbacks(
    config: RunConfig,
    own: Sequence[Any],
    reporting: Reporting | None = None,
    run: RunInfo | None = None,
) -> Chosen:
    """Build the configured callbacks and put them in order with the recipe's `own` and ours.

    `run` is shown to those that want to know of it. Where it is resumed, what it has written is
    kept; where this worker does not write, those that do nothing else are left out.
    """
    first, last = (reporting.first, reporting.last) if reporting else ([], [])
    history = keras_callbacks.History()
    configured = [(make_callback(item), item.stateless) for item in config.callbacks]
    theirs = [*own, *(callback for callback, _ in configured)]
    for callback in theirs:
        if isinstance(callback, keras_callbacks.TensorBoard) and not find_spec("tensorboard"):
            raise ConfigError(
                "callback TensorBoard needs its package: pip install 'trainer-k8s[tensorboard]'"
            )
        if type(callback) is keras_callbacks.CSVLogger:
            # It would empty the file; what was written after the checkpoint, its state cuts off.
            callback.append |= run is not None and run.is_resumed
    per_call = config.train.steps_per_call
    is_step_by_step = per_call == 1 or (per_call == "auto" and any(map(_wants_steps, theirs)))
    may_stop = [callback for callback in theirs if _may_stop_at_a_step(callback)]
    if may_stop and not is_step_by_step and config.train.engine == "loop":
        last = [StopCheck(may_stop), *last]
    appends = any(type(cb) is keras_callbacks.CSVLogger and cb.append for cb in theirs)
    if run is not None and not run.writes:
        own = [callback for callback in own if type(callback) not in _WRITERS]
        configured = [item for item in configured if type(item[0]) not in _WRITERS]
        theirs = [*own, *(callback for callback, _ in configured)]
    if run is not None:
        _show_run(run, theirs)
    return Chosen(
        # As Keras orders them: others, as ReduceLROnPlateau, add to the logs that are kept.
        all=[*first, *theirs, history, *last],
        resumable=[history, *own, *(cb for cb, stateless in configured if not stateless)],
        history=history,
        is_step_by_step=is_step_by_step,
        appends=appends,
    )


def check_callbacks(callbacks: Sequence[Any]) -> None:
    """ConfigError unless all of them are Keras callbacks."""
    for callback in callbacks:
        if not isinstance(callback, keras.callbacks.Callback):
            raise ConfigError(
                f"a {type(callback).__name__} is among the callbacks: give objects of "
                "keras.callbacks.Callback"
            )


def _show_run(run: RunInfo, callbacks: Sequence[Any]) -> None:
    for callback in callbacks:
        if isinstance(callback, KnowsRun):
            with user_code(f"callback {type(callback).__name__}: its set_run"):
                callback.set_run(run)


def _wants_steps(callback: Any) -> bool:
    if isinstance(callback, _READ_LOGS) or getattr(callback, "reads_logs_only", False):
        return False
    if isinstance(callback, keras_callbacks.ModelCheckpoint):
        return callback.save_freq != "epoch"
    return _has_hooks_of_steps(callback)


def _may_stop_at_a_step(callback: Any) -> bool:
    known = (*_READ_LOGS, keras_callbacks.ModelCheckpoint, Picture)
    return not isinstance(callback, known) and _has_hooks_of_steps(callback)


def _has_hooks_of_steps(callback: Any) -> bool:
    hooks = ("on_train_batch_begin", "on_train_batch_end", "on_batch_begin", "on_batch_end")
    base = keras.callbacks.Callback
    # A LambdaCallback's hooks are plain functions, without __func__.
    return any(
        getattr(getattr(callback, hook), "__func__", None) is not getattr(base, hook)
        for hook in hooks
    )
