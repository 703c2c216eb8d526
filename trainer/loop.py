"""The inner loop: `strategy.run` over a model's own steps, several of them a call.

Keras callbacks are driven with the usual hooks and global logs. Between two calls, and only
there, the loop looks up: at the stop request, and whether a save is due.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import tensorflow as tf

from trainer.checkpoint.position import Position, Schedule
from trainer.models.replicas import prepare_replicas, weighted

# A validation pass: is given what to do between its compiled calls, returns metrics by name.
Validate = Callable[[Callable[[], None]], dict[str, float]]

# Without a measurement yet, one step: the first call also traces and compiles.
_MAX_STEPS_PER_CALL = 100
# A clock in the graph enters Python and costs up to 60 µs: one step in so much time is enough.
_CLOCK_SECONDS = 0.1


@dataclass(frozen=True)
class CallResult:
    """What one call of the compiled function did.

    `logs` are float32 [steps] by name; `ended` and `waited` float64 [steps]: Unix time of each
    step's end and seconds that it waited for data, both filled in between the steps timed.
    """

    logs: dict[str, Any]
    ended: Any
    waited: Any

    @property
    def num_steps(self) -> int:
        """Steps done."""
        return len(self.ended)

    def step_logs(self, index: int) -> dict[str, float]:
        """Logs of one step, as Keras hands them to callbacks."""
        return {name: float(values[index]) for name, values in self.logs.items()}


class CompiledSteps:
    """`train_step` or `test_step` of a model, compiled to run any number of steps a call.

    clock_every: of so many steps, one is timed; follows the speed that calls have.
    """

    def __init__(self, model: Any, strategy: Any, step: str) -> None:
        self._model = model
        self._strategy = strategy
        self._step = getattr(model, step)
        self._names: list[str] = []
        self._is_distributed = strategy.num_replicas_in_sync > 1
        if self._is_distributed:
            prepare_replicas(model)
        self._function = tf.function(self._run, reduce_retracing=True)
        self.clock_every = 1

    def __call__(self, iterator: Any, num_steps: int) -> CallResult:
        """Run `num_steps` steps on the next elements of `iterator`."""
        started = time.monotonic()
        logs, times = self._function(
            iterator, tf.constant(num_steps), tf.constant(self.clock_every)
        )
        logs, times, ended = logs.numpy(), times.numpy(), time.time()
        seconds = time.monotonic() - started
        # Odd, so that timed steps are now the first and now the last of what the pipeline
        # delivers together.
        self.clock_every = int(_CLOCK_SECONDS * num_steps / seconds) | 1
        by_name = {name: logs[:, column] for column, name in enumerate(self._names)}
        return CallResult(by_name, *_fill_times(times, ended))

    def _run(self, iterator: Any, num_steps: Any, clock_every: Any) -> Any:
        logs = tf.TensorArray(tf.float32, size=num_steps, element_shape=[None])
        times = tf.TensorArray(tf.float64, size=num_steps, element_shape=[2])

        def body(index: Any, logs: Any, times: Any) -> Any:
            is_timed = tf.equal(index % clock_every, 0)
            started = _now_if(is_timed, [])
            with tf.control_dependencies([started]):
                element = iterator.get_next()
            fetched = _now_if(is_timed, _tensors(element))
            outputs = self._strategy.run(self._replica_step, args=(element,))
            logs = logs.write(index, self._global_logs(outputs))
            return index + 1, logs, times.write(index, [started, fetched])

        _, logs, times = tf.while_loop(
            lambda index, *_: index < num_steps, body, (tf.constant(0), logs, times),
            parallel_iterations=1,
        )  # fmt: skip
        return logs.stack(), times.stack()

    def _replica_step(self, element: Any) -> Any:
        data, share = element
        if not self._is_distributed:
            return _flat(self._step(data))
        weight, is_counted = share[0], share[1] > 0
        before = [(v, v.value.read_value()) for v in self._model.metrics_variables]
        with weighted(weight):
            outputs = _flat(self._step(data))
        # A replica without a record of this step ran on copies of others': forget its metrics.
        for variable, value in before:
            variable.assign(tf.where(is_counted, variable.value.read_value(), value))
        # Weighted, so that the mean over replicas is that over records.
        return {name: tf.cast(value, tf.float32) * weight for name, value in outputs.items()}

    def _global_logs(self, outputs: Any) -> Any:
        """float32 [logs]: metrics over all replicas, other logs averaged."""
        if self._is_distributed:
            metrics = self._model.get_metrics_result()
            outputs = {
                name: metrics[name]
                if name in metrics
                else self._strategy.reduce(tf.distribute.ReduceOp.MEAN, value, axis=None)
                for name, value in outputs.items()
            }
        # In the order in which Keras hands logs to callbacks.
        self._names = sorted(outputs)
        values = [outputs[name] for name in self._names]
        return tf.stack([tf.reshape(tf.cast(value, tf.float32), []) for value in values])


def _flat(logs: Any) -> dict[str, Any]:
    """Logs of a step by name; a metric that holds several, as compiled ones do, gives them all."""
    flat: dict[str, Any] = {}
    for name, value in logs.items():
        flat |= value if isinstance(value, dict) else {name: value}
    return flat


def _now_if(condition: Any, after: list[Any]) -> Any:
    """Unix time in seconds once the tensors `after` are there, float64 []; NaN if not asked."""

    # tf.timestamp would do, but it is refused under enable_op_determinism.
    def now() -> Any:
        seconds = tf.numpy_function(time.time, [], tf.float64)
        seconds.set_shape([])
        return seconds

    with tf.control_dependencies(after):
        return tf.cond(condition, now, lambda: tf.constant(math.nan, tf.float64))


def _fill_times(times: Any, ended: float) -> tuple[Any, Any]:
    """(ends, waits) float64 [steps] of all steps from the timed ones.

    `times` float64 [steps, 2]: start and arrival of data, NaN where not timed; the first step
    is. `ended`: Unix time of the last step's end. In between, steps are taken as equally long,
    and their waits as that of the timed step before.
    """
    num_steps = len(times)
    timed = np.flatnonzero(~np.isnan(times[:, 0]))
    known = np.append(times[timed, 0], ended)
    starts = np.interp(np.arange(num_steps + 1), np.append(timed, num_steps), known)
    waits = times[timed, 1] - times[timed, 0]
    return starts[1:], np.repeat(waits, np.diff(np.append(timed, num_steps)))


def _tensors(element: Any) -> list[Any]:
    per_replica = tf.nest.flatten(element, expand_composites=True)
    return [tensor for tensor in per_replica if tf.is_tensor(tensor)]


class Boundary(Protocol):
    """What happens between two calls; the loop asks, others decide."""

    def steps_until_save(self, step: int) -> int | None:
        """Steps to the next one that must end a call."""
        ...

    def between_calls(self, position: Position) -> None:
        """Save if due; raise StoppedError after a save when told to stop."""
        ...

    def inside_fit(self) -> None:
        """Raise StoppedError when told to stop where Keras' fit cannot be saved."""
        ...

    def before_validation(self) -> None:
        """Remember what a pass may change: stopped inside it, the run starts the pass again."""
        ...

    def after_epoch(self, position: Position) -> None:
        """Save if due; raise StoppedError after a save when told to stop."""
        ...


class TrainLoop:
    """Drives steps and callbacks from a position to the end of the schedule."""

    def __init__(
        self,
        model: Any,
        train: CompiledSteps,
        schedule: Schedule,
        boundary: Boundary,
        *,
        callbacks: Any,
        validate: Validate | None,
        on_call: Callable[[CallResult], None],
    ) -> None:
        self._model = model
        self._train = train
        self._schedule = schedule
        self._boundary = boundary
        self._callbacks = callbacks
        self._each = each_callback(callbacks)
        self._validate = validate
        self._on_call = on_call
        self._calls = CallSize(schedule)

    def run(self, position: Position, iterator: Iterator[Any]) -> Position:
        """Train until the schedule's end or until a callback stops it."""
        while not position.is_over(self._schedule.target_step):
            position = self._epoch(position, iterator)
        return position

    def _epoch(self, position: Position, iterator: Iterator[Any]) -> Position:
        steps = self._schedule.steps_per_epoch
        epoch = position.epoch(steps)
        if position.phase == "train":
            if not position.is_inside_epoch(steps):
                self._model.reset_metrics()
                self._callbacks.on_epoch_begin(epoch)
            position = self._train_steps(position, (epoch + 1) * steps, iterator)
        logs = position.epoch_logs
        if self._validate is not None and (epoch + 1) % self._schedule.validate_every == 0:
            self._boundary.before_validation()
            validated = self._validate(lambda: self._boundary.between_calls(position))
            logs = logs | {f"val_{name}": value for name, value in validated.items()}
        self._callbacks.on_epoch_end(epoch, dict(logs))
        position = replace(
            position, phase="train", epoch_logs=logs, stop_training=bool(self._model.stop_training)
        )
        self._boundary.after_epoch(position)
        return position

    def _train_steps(self, position: Position, until: int, iterator: Iterator[Any]) -> Position:
        """Train up to step `until`, an epoch's end; the position is then that of validation."""
        while position.step < until and not self._model.stop_training:
            ahead = [until - position.step, self._calls.size]
            if (save := self._boundary.steps_until_save(position.step)) is not None:
                ahead.append(save)
            position = self._call(position, min(ahead), iterator)
            if position.step < until and not self._model.stop_training:
                self._boundary.between_calls(position)
        return replace(position, phase="validate")

    def _call(self, position: Position, num_steps: int, iterator: Iterator[Any]) -> Position:
        started = time.monotonic()
        result = self._train(iterator, num_steps)
        self._calls.measured(num_steps, time.monotonic() - started)
        self._on_call(result)
        first = position.step % self._schedule.steps_per_epoch
        for index in range(num_steps):
            logs = result.step_logs(index)
            for callback in self._each:
                callback.on_train_batch_begin(first + index, logs={})
            for callback in self._each:
                callback.on_train_batch_end(first + index, logs=logs)
        return replace(
            position,
            step=position.step + num_steps,
            epoch_logs=result.step_logs(num_steps - 1),
            stop_training=bool(self._model.stop_training),
        )


def each_callback(callbacks: Any) -> Sequence[Any]:
    """The members of a `keras.callbacks.CallbackList`, for hooks that are called every step.

    The list itself would look for tensors in the logs each time (20 µs a step), which are floats
    here, and may call hooks of test batches from other threads.
    """
    return callbacks.callbacks


class CallSize:
    """Steps for the next call: as configured, or as many as the allowed seconds hold."""

    def __init__(self, schedule: Schedule) -> None:
        self._seconds = schedule.call_seconds
        self._limit = schedule.steps_per_call or _MAX_STEPS_PER_CALL
        self._calls = 0
        self.size = min(1, self._limit)

    def measured(self, num_steps: int, seconds: float) -> None:
        """Learn from a call; the first is not counted, it compiled."""
        self._calls += 1
        if self._calls > 1:
            fits = int(self._seconds * num_steps / max(seconds, 1e-6))
            self.size = max(1, min(fits, 2 * self.size, self._limit))


def run_pass(
    model: Any,
    test: CompiledSteps,
    iterator: Iterator[Any],
    num_steps: int,
    *,
    callbacks: Any = None,
    between: Callable[[], None] = lambda: None,
) -> dict[str, float]:
    """Evaluate on `num_steps` elements; every record counts once. Returns the metrics by name."""
    model.reset_metrics()
    each = () if callbacks is None else each_callback(callbacks)
    if callbacks is not None:
        callbacks.on_test_begin()
    calls = CallSize(Schedule(epochs=1, steps_per_epoch=num_steps))
    done, logs = 0, {}
    while done < num_steps:
        size = min(calls.size, num_steps - done)
        started = time.monotonic()
        result = test(iterator, size)
        calls.measured(size, time.monotonic() - started)
        logs = result.step_logs(size - 1)
        for index in range(size if each else 0):
            step_logs = result.step_logs(index)
            for callback in each:
                callback.on_test_batch_begin(done + index, logs={})
            for callback in each:
                callback.on_test_batch_end(done + index, logs=step_logs)
        done += size
        between()
    if callbacks is not None:
        callbacks.on_test_end(logs)
    return logs


def build(model: Any, strategy: Any, sample: Any) -> None:
    """Create every variable: one eager forward pass and metrics on a sample, then reset.

    Stock train_steps cannot create metrics under `strategy.run`, and a restore needs all
    variables to be there. Seed generators are put back: building must not use up randomness.
    """
    data = tf.nest.map_structure(tf.convert_to_tensor, sample)
    with strategy.scope():
        seeds = [(v, v.value.numpy()) for v in model.non_trainable_variables if _is_seed(v)]
        strategy.run(model.test_step, args=(data,))
        model.optimizer.build(model.trainable_variables)
        for variable, value in seeds:
            variable.assign(value)
        model.reset_metrics()


def _is_seed(variable: Any) -> bool:
    return "seed_generator_state" in variable.path
