"""The callbacks of one life of a worker: ours, the recipe's, and those of the configuration."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import keras
from keras import callbacks as keras_callbacks

from trainer.agreement import Agreement
from trainer.callbacks.catalog import factory_of, make_callback
from trainer.callbacks.chief import ChiefOnly, guarded, is_chief_only, overrides
from trainer.callbacks.curves import CurvesCallback, CurvesOfFit
from trainer.callbacks.metrics import MetricsCallback
from trainer.callbacks.non_finite import NonFiniteCallback
from trainer.callbacks.progress import ProgressBar, ProgressEvents
from trainer.callbacks.run_info import KnowsRun, RunInfo
from trainer.callbacks.stop_check import StopCheck
from trainer.callbacks.tensorboard import TensorBoard
from trainer.callbacks.trace import StepTrace
from trainer.checkpoint.format import Manifest
from trainer.checkpoint.position import Schedule
from trainer.config import RunConfig
from trainer.data.order import Order
from trainer.errors import ConfigError, TrainerError
from trainer.metrics import Metrics
from trainer.pictures.picture import Picture
from trainer.run.run_dir import RunDir
from trainer.steps import CallResult
from trainer.user_code import user_code

# They only read logs, so that steps may run several a call.
_READ_LOGS = (
    keras_callbacks.CSVLogger,
    keras_callbacks.History,
    keras_callbacks.TensorBoard,
    keras_callbacks.TerminateOnNaN,
)


# Whether a CSVLogger was made to add to its file, which a resumed one does anyway.
_APPENDS = "_trainer_appends"


class Reporting:
    """Our own callbacks: metrics, progress, the check for NaN, curves, and a trace of some steps.

    run: where curves and a trace are kept, on the worker that keeps them.
    """

    def __init__(
        self, *, metrics: Metrics, log: Any, console: Any, config: RunConfig, order: Order,
        start: int, schedule: Schedule, run: RunDir | None = None,
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
        self.first: list[Any] = [self._metrics, self._non_finite]
        self._curves: CurvesCallback | None = None
        if run is not None and (recorder := run.curves.recorder) is not None:
            first_step = schedule.first_step
            recorder.begin(start, target, order.steps_per_epoch, first_step=first_step)
            kind = CurvesOfFit if config.train.engine == "fit" else CurvesCallback
            self._curves = kind(run.curves, recorder)
        # Behind what changes logs and learning rates.
        self.last: list[Any] = [*([self._curves] if self._curves else []), self._progress]
        self._trace: StepTrace | None = None
        if run is not None and config.train.profile is not None:
            steps = config.train.profile.steps
            self._trace = StepTrace(
                steps, run.storage, log, start=start, first_step=schedule.first_step,
                steps_per_epoch=order.steps_per_epoch,
            )  # fmt: skip
            self.last.append(self._trace)

    def on_call(self, result: CallResult) -> None:
        """The loop's steps of one call."""
        self._metrics.on_call(result)
        self._non_finite.on_call(result)
        if self._curves is not None:
            self._curves.on_call(result)

    def on_saved(self, manifest: Manifest, seconds: float) -> None:
        """A checkpoint was committed; called by the saving thread."""
        self._log.info(
            "checkpoint", step=manifest.step, megabytes=round(manifest.num_bytes / 1e6, 2),
            seconds=round(seconds, 3), sha256=manifest.sha256[:12],
        )  # fmt: skip
        if self._curves is not None:
            self._curves.on_saved()

    def close(self) -> None:
        """Give the terminal back, and leave a trace that did not come to its end."""
        self._progress.close()
        if self._curves is not None:
            self._curves.close()
        if self._trace is not None:
            self._trace.close()


@dataclass(frozen=True)
class Chosen:
    """`all` in the order in which their hooks run; `resumable` have their state saved.

    `is_step_by_step`: a call is one step, because it was asked for, or because one of them wants
    the weights of exactly its step. `appends`: one adds to a file from before the run. `swaps`: one
    is called in validation passes, and may have other weights there (Keras' SwapEMAWeights).
    """

    all: list[Any]
    resumable: list[Any]
    history: Any
    is_step_by_step: bool
    appends: bool
    swaps: bool

    @property
    def names(self) -> list[str]:
        """Their classes, in that order."""
        shown = [cb.callback if isinstance(cb, ChiefOnly) else cb for cb in self.all]
        return [type(callback).__name__ for callback in shown]

    def on_saved(self) -> None:
        """A checkpoint was committed; called by the saving thread."""
        for callback in self.all:
            if isinstance(callback, TensorBoard):
                callback.on_saved()


@dataclass(frozen=True)
class _Given:
    """A callback of the recipe's or of the configuration's."""

    callback: Any
    is_chief_only: bool
    is_stateless: bool = False


def choose_callbacks(
    config: RunConfig,
    own: Sequence[Any],
    reporting: Reporting | None = None,
    run: RunInfo | None = None,
    agreement: Agreement | None = None,
) -> Chosen:
    """Build the configured callbacks and put them in order with the recipe's `own` and ours.

    `run` is shown to those that want to know of it. Where it is resumed, what it has written is
    kept; where this worker does not write, those for the chief alone are left out. What follows
    from all of them, also from those, workers have to do alike: with an `agreement` the chief says
    it, and what one of them refuses, all refuse.
    """
    given = _together(agreement, lambda: _given(config, own, run))
    theirs = [one.callback for one in given]
    per_call = config.train.steps_per_call
    is_step_by_step = per_call == 1 or (per_call == "auto" and any(map(_wants_steps, theirs)))
    appends = any(getattr(callback, _APPENDS, False) for callback in theirs)
    swaps = any(map(_may_swap, theirs))
    if agreement is not None:
        said = agreement.of_chief(f"{is_step_by_step:d}{appends:d}{swaps:d}")
        is_step_by_step, appends, swaps = (digit == "1" for digit in said)
    first, last = (reporting.first, reporting.last) if reporting else ([], [])
    may_stop = [
        one.callback for one in given if not one.is_chief_only and _may_stop_at_a_step(one.callback)
    ]
    if may_stop and not is_step_by_step and config.train.engine == "loop":
        last = [StopCheck(may_stop), *last]
    if agreement is not None:
        theirs = [
            guarded(one.callback, agreement.object_to) if one.is_chief_only else one.callback
            for one in given
        ]
    history = keras_callbacks.History()
    # States are numbered by class, and other workers have none of the chief's: those come last.
    by_worker = sorted(given, key=lambda one: one.is_chief_only)
    return Chosen(
        # As Keras orders them: others, as ReduceLROnPlateau, add to the logs that are kept.
        all=[*first, *theirs, history, *last],
        resumable=[history, *(one.callback for one in by_worker if not one.is_stateless)],
        history=history,
        is_step_by_step=is_step_by_step,
        appends=appends,
        swaps=swaps,
    )


def here(callbacks: Sequence[Any], *, writes: bool) -> list[Any]:
    """Those that run on this worker. Raises ConfigError for what is no callback of Keras'."""
    check_callbacks(callbacks)
    return [callback for callback in callbacks if writes or not is_chief_only(callback)]


def _given(config: RunConfig, own: Sequence[Any], run: RunInfo | None) -> list[_Given]:
    """Those that run here, built and told of the run."""
    writes = run is None or run.writes
    given = [_Given(callback, is_chief_only(callback)) for callback in here(own, writes=writes)]
    for item in config.callbacks:
        is_chiefs = is_chief_only(factory_of(item), configured=item.chief_only)
        if is_chiefs and not writes:
            continue  # to build it may be to connect already
        callback = make_callback(item)
        is_chiefs = is_chief_only(callback, configured=item.chief_only)
        if writes or not is_chiefs:  # it was made by a function
            given.append(_Given(callback, is_chiefs, item.stateless))
    for callback in (one.callback for one in given):
        if isinstance(callback, keras_callbacks.TensorBoard) and not find_spec("tensorboard"):
            raise ConfigError(
                "callback TensorBoard needs its package: pip install 'trainer-k8s[tensorboard]'"
            )
        if type(callback) is keras_callbacks.CSVLogger:
            # A script may give it to another training, too.
            appends = vars(callback).setdefault(_APPENDS, callback.append)
            # It would empty the file; what was written after the checkpoint, its state cuts off.
            callback.append = appends or (run is not None and run.is_resumed)
        if run is not None and isinstance(callback, KnowsRun):
            with user_code(f"callback {type(callback).__name__}: its set_run"):
                callback.set_run(run)
    if sum(isinstance(one.callback, TensorBoard) and one.callback.is_in_run for one in given) > 1:
        raise ConfigError(
            "two callbacks tensorboard write into the run's folder: give one of them a log_dir"
        )
    return given


def _together(agreement: Agreement | None, build: Callable[[], list[_Given]]) -> list[_Given]:
    """What is built here, if no worker refuses: one that went on alone would wait for ever."""
    refusal: TrainerError | None = None
    built: list[_Given] = []
    try:
        built = build()
    except TrainerError as error:
        refusal = error
    is_refused = refusal is not None
    if agreement is not None:
        is_refused = not agreement.all(not is_refused)
    if is_refused:
        if agreement is not None:
            agreement.part()
        raise refusal or ConfigError("another worker refuses its callbacks: see what it says")
    return built


def check_callbacks(callbacks: Sequence[Any]) -> None:
    """ConfigError unless all of them are Keras callbacks."""
    for callback in callbacks:
        if not isinstance(callback, keras.callbacks.Callback):
            raise ConfigError(
                f"a {type(callback).__name__} is among the callbacks: give objects of "
                "keras.callbacks.Callback"
            )


def _wants_steps(callback: Any) -> bool:
    if isinstance(callback, _READ_LOGS) or getattr(callback, "reads_logs_only", False):
        return False
    if isinstance(callback, keras_callbacks.ModelCheckpoint):
        return callback.save_freq != "epoch"
    return _has_hooks_of_steps(callback)


def _may_stop_at_a_step(callback: Any) -> bool:
    known = (*_READ_LOGS, keras_callbacks.ModelCheckpoint, Picture)
    return not isinstance(callback, known) and _has_hooks_of_steps(callback)


def _may_swap(callback: Any) -> bool:
    known = (*_READ_LOGS, keras_callbacks.ModelCheckpoint, Picture)
    if isinstance(callback, known) or getattr(callback, "reads_logs_only", False):
        return False
    hooks = ("on_test_begin", "on_test_batch_begin")
    return any(overrides(callback, hook) for hook in hooks)


def _has_hooks_of_steps(callback: Any) -> bool:
    hooks = ("on_train_batch_begin", "on_train_batch_end")
    return any(overrides(callback, hook) for hook in hooks)
