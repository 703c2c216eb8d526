"""Share of a training's time that is spent outside of its compiled steps, and by hooks alone.

The recipe's loop, with its objects wrapped in stop-watches before they are passed in. Whatever is
not inside a compiled call counts, and of what is inside, the clocks that time steps and data. At
12 ms a step it is what hangs on the loop that counts: callbacks, what is asked between calls,
metrics, and the clocks; stop-watches included.
"""

import io
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from statistics import median
from typing import Any, cast

import keras
import tensorflow as tf
from prometheus_client import CollectorRegistry

from bench.pairs import Result, milliseconds, noise_floor, run_alone, take_turns, timed
from trainer.callbacks.assemble import Reporting, choose_callbacks
from trainer.callbacks.state import CallbackStates
from trainer.checkpoint.boundary import Captured, Checkpoints
from trainer.checkpoint.position import Position, Schedule
from trainer.checkpoint.saver import Saver
from trainer.compiled_steps import CompiledSteps
from trainer.job import Assembled, Job
from trainer.log import configure_logging, get_log
from trainer.loop import TrainLoop
from trainer.metrics import Metrics
from trainer.recipes.catalog import load_run
from trainer.run.run_dir import RunDir
from trainer.step_times import StepTimes
from trainer.steps import Steps
from trainer.stop import StopRequest
from trainer.storage import open_storage
from trainer.worker import assemble

AIM = 0.01
# As on accelerators, steps are short: what is spent outside of them, of so many seconds.
SHORT_SECONDS = 0.012
SHORT = ("params.filters=8", "data.batch_size=64")
AIM_OF_SHORT = 0.005
# Two to warm up, and one that only ends the last before.
EPOCHS = 15
CLOCK_STEPS, CLOCK_ROUNDS = 1000, 11
_NO_HOOKS = ("wall", "steps", "saves", "Epochs")


class StopWatch:
    """Seconds by name. Of nested ones only the inner counts."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._inner = 0.0

    @contextmanager
    def running(self, name: str) -> Iterator[None]:
        """Time a block."""
        started, outer, self._inner = time.perf_counter(), self._inner, 0.0
        try:
            yield
        finally:
            seconds = time.perf_counter() - started
            self.seconds[name] += seconds - self._inner
            self._inner = outer + seconds

    def around(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """`function`, timed."""

        def call(*args: Any, **kwargs: Any) -> Any:
            with self.running(name):
                return function(*args, **kwargs)

        return call


class Watched:
    """An object whose methods are timed under one name, or under `names` of their own."""

    def __init__(self, inner: Any, watch: StopWatch, name: str, **names: str) -> None:
        self._inner, self._watch, self._name, self._names = inner, watch, name, names

    def __getattr__(self, method: str) -> Any:
        function = getattr(self._inner, method)
        if not callable(function):
            return function
        timed_one = self._watch.around(self._names.get(method, self._name), function)
        # The next time, the attribute is there.
        self.__dict__[method] = timed_one
        return timed_one


class Epochs(keras.callbacks.Callback):
    """Notes wall time and the stop-watch when an epoch begins."""

    reads_logs_only = True

    def __init__(self, watch: StopWatch) -> None:
        super().__init__()
        self._watch = watch
        self.notes: list[dict[str, float]] = []

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        """Note the time."""
        self.notes.append({"wall": time.perf_counter(), **self._watch.seconds})

    def spent(self) -> list[dict[str, float]]:
        """Seconds by name in each epoch; the first two compile and find the size of a call."""
        return [
            {name: after[name] - before.get(name, 0.0) for name in after}
            for before, after in pairwise(self.notes[2:])
        ]


def measure() -> list[Result]:
    """Time outside of compiled steps, and clocks inside / all time."""
    spent = _spent(())
    shares = [step["outside"] / step["wall"] for step in spent]
    noise = noise_floor(shares[::2], shares[1::2])
    return [Result("hooks_share", median(shares), noise, AIM, "lower", _details(spent))]


def measure_short() -> list[Result]:
    """Hooks of short steps, as a share of 12 ms, however long they are on this machine."""
    spent = _spent(SHORT)
    shares = [step["hooks"] / SHORT_SECONDS for step in spent]
    noise = noise_floor(shares[::2], shares[1::2])
    details = _details(spent)
    return [Result("hooks_at_12_ms", median(shares), noise, AIM_OF_SHORT, "lower", details)]


def _spent(settings: tuple[str, ...]) -> list[dict[str, float]]:
    """Seconds a step in each epoch by name: of all (`wall`), of what is not in compiled steps and
    saves (`outside`, with the clocks inside of them), of which `hooks` have names here.
    """
    with tempfile.TemporaryDirectory(prefix="bench-hooks-") as folder:
        job = _job(folder, settings)
        parts = assemble(job)
        watch = StopWatch()
        steps = CompiledSteps(parts.model, parts.strategy, "train_step")
        epochs, steps_per_epoch = _train(job, parts, steps, watch)
        clocks = _clock_seconds(parts.strategy) / steps.clock_every
    spent = [{name: epoch[name] / steps_per_epoch for name in epoch} for epoch in epochs]
    for step in spent:
        step["clocks"] = clocks
        step["hooks"] = sum(each for name, each in step.items() if name not in _NO_HOOKS)
        step["outside"] = step["wall"] - step["steps"] - step["saves"] + clocks
    return spent


def _details(spent: list[dict[str, float]]) -> dict[str, str]:
    return {"step": f"{milliseconds([step['wall'] for step in spent])} ms"} | {
        name: f"{1e6 * median(step[name] for step in spent):.1f} µs/step"
        for name in spent[0]
        if name not in ("wall", "steps", "Epochs")
    }


def _job(folder: str, settings: tuple[str, ...]) -> Job:
    configure_logging(as_json=True, stream=io.StringIO())
    ours = (f"run.dir={folder}", f"train.epochs={EPOCHS}", "log.every_seconds=1e9")
    config, recipe, params = load_run("fashion_mnist", (*settings, *ours))
    run = RunDir(folder, open_storage)
    metrics = Metrics(CollectorRegistry())
    return Job(config, recipe, params, run, metrics, get_log(), StopRequest())


def _train(
    job: Job, parts: Assembled, steps: CompiledSteps, watch: StopWatch
) -> tuple[list[dict[str, float]], int]:
    """Seconds by name in each epoch, and the steps of one."""
    pipeline = parts.dataset.training(parts.place)
    schedule = Schedule(EPOCHS, pipeline.order.steps_per_epoch, call_seconds=1.0)
    reporting = Reporting(
        metrics=job.metrics, log=job.log, console=None, config=job.config, order=pipeline.order,
        start=0, schedule=schedule, run=job.run,
    )  # fmt: skip
    chosen = choose_callbacks(job.config, [], reporting)
    states = CallbackStates(chosen.resumable)

    def capture(*, whole: bool) -> Captured:  # noqa: ARG001
        callbacks, arrays = states.capture()
        return Captured(parts.state.snapshot() | arrays, {"callbacks": callbacks})

    checkpoints = Checkpoints(
        job.config, capture=capture, schedule=schedule, agreement=parts.agreement,
        metrics=job.metrics, goodput=job.goodput,
        saver=Saver(job.run.checkpoints, job.config.checkpoint, job.metrics),
    )  # fmt: skip
    times = StepTimes(job.goodput, done=0, reached=0, fetching=pipeline.fetching)
    epochs = Epochs(watch)
    callbacks = keras.callbacks.CallbackList([epochs, *chosen.all], model=parts.model)
    # The loop calls them one by one at every step.
    callbacks.callbacks = [
        Watched(each, watch, type(each).__name__) for each in callbacks.callbacks
    ]
    loop = TrainLoop(
        parts.model, times.of(cast(Steps, watch.around("steps", steps))), schedule,
        Watched(checkpoints, watch, "boundary", after_epoch="saves"),
        callbacks=Watched(callbacks, watch, "callbacks"), validation=None,
        on_call=watch.around("metrics", reporting.on_call),
    )  # fmt: skip
    callbacks.on_train_begin()
    loop.run(Position(), iter(pipeline.dataset()))
    checkpoints.close()
    return epochs.spent(), schedule.steps_per_epoch


class _NoModel:
    """Steps that do nothing, so that their clocks stand out."""

    optimizer = None
    metrics_variables = ()

    def train_step(self, data: Any) -> dict[str, Any]:
        """Return the data as the loss."""
        return {"loss": data}


def _clock_seconds(strategy: Any) -> float:
    """What the clocks of one timed step cost."""
    iterator = iter(tf.data.Dataset.from_tensors((0.0, 1.0)).repeat())
    steps = CompiledSteps(_NoModel(), strategy, "train_step")

    def turn(clock_every: int) -> float:
        steps.clock_every = clock_every
        return timed(lambda: steps(iterator, CLOCK_STEPS)) / CLOCK_STEPS

    seconds = take_turns(
        {"every step": lambda: turn(1), "first step": lambda: turn(CLOCK_STEPS)},
        rounds=CLOCK_ROUNDS, warm_ups=1,
    )  # fmt: skip
    pairs = zip(seconds["every step"], seconds["first step"], strict=True)
    return median(every - first for every, first in pairs)


MEASURES = {"hooks_share": measure, "hooks_at_12_ms": measure_short}

if __name__ == "__main__":
    run_alone(MEASURES, about=__doc__)
