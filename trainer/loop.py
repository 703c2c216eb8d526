"""The inner loop: `strategy.run` over a model's own steps, several of them a call.

Keras callbacks are driven with the usual hooks and global logs. Between two calls, and only
there, the loop looks up: at the stop request, and whether a save is due.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Protocol

import tensorflow as tf

from trainer.checkpoint.position import Position, Schedule
from trainer.models.replicas import prepare_replicas, weighted

# Without a measurement yet, one step: the first call also traces and compiles.
_MAX_STEPS_PER_CALL = 100


@dataclass(frozen=True)
class CallResult:
    """What one call of the compiled function did.

    `logs` are float32 [steps] by name; `ended` and `waited` float64 [steps]: Unix time of each
    step's end and seconds that it waited for data.
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
    """`train_step` or `test_step` of a model, compiled to run any number of steps a call."""

    def __init__(self, model: Any, strategy: Any, step: str) -> None:
        self._model = model
        self._strategy = strategy
        self._step = getattr(model, step)
        self._names: list[str] = []
        self._is_distributed = strategy.num_replicas_in_sync > 1
        if self._is_distributed:
            prepare_replicas(model)
        self._function = tf.function(self._run, reduce_retracing=True)

    def __call__(self, iterator: Any, num_steps: int) -> CallResult:
        """Run `num_steps` steps on the next elements of `iterator`."""
        logs, times = self._function(iterator, tf.constant(num_steps))
        logs, times = logs.numpy(), times.numpy()
        by_name = {name: logs[:, column] for column, name in enumerate(self._names)}
        return CallResult(by_name, times[:, 1], times[:, 0])

    def _run(self, iterator: Any, num_steps: Any) -> Any:
        logs = tf.TensorArray(tf.float32, size=num_steps, element_shape=[None])
        times = tf.TensorArray(tf.float64, size=num_steps, element_shape=[2])

        def body(index: Any, logs: Any, times: Any) -> Any:
            values, waited, ended = self._one(iterator)
            return index + 1, logs.write(index, values), times.write(index, [waited, ended])

        _, logs, times = tf.while_loop(
            lambda index, *_: index < num_steps, body, (tf.constant(0), logs, times),
            parallel_iterations=1,
        )  # fmt: skip
        return logs.stack(), times.stack()

    def _one(self, iterator: Any) -> tuple[Any, Any, Any]:
        started = _now([])
        with tf.control_dependencies([started]):
            element = iterator.get_next()
        fetched = _now(_tensors(element))
        outputs = self._strategy.run(self._replica_step, args=(element,))
        values = self._global_logs(outputs)
        return values, fetched - started, _now([values])

    def _replica_step(self, element: Any) -> Any:
        data, share = element
        if not self._is_distributed:
            return self._step(data)
        weight, is_counted = share[0], share[1] > 0
        before = [(v, v.value.read_value()) for v in self._model.metrics_variables]
        with weighted(weight):
            outputs = self._step(data)
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
        self._names = list(outputs)
        return tf.stack([tf.reshape(tf.cast(v, tf.float32), []) for v in outputs.values()])


def _now(after: list[Any]) -> Any:
    """Unix time in seconds, float64 [], once the tensors `after` are there."""
    # tf.timestamp would do, but it is refused under enable_op_determinism.
    with tf.control_dependencies(after):
        now = tf.numpy_function(time.time, [], tf.float64)
    now.set_shape([])
    return now


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
        validate: Callable[[Callable[[], None]], dict[str, float]] | None,
        on_call: Callable[[CallResult], None],
    ) -> None:
        self._model = model
        self._train = train
        self._schedule = schedule
        self._boundary = boundary
        self._callbacks = callbacks
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
            if position.step < until:
                self._boundary.between_calls(position)
        return replace(position, phase="validate")

    def _call(self, position: Position, num_steps: int, iterator: Iterator[Any]) -> Position:
        started = time.monotonic()
        result = self._train(iterator, num_steps)
        self._calls.measured(num_steps, time.monotonic() - started)
        self._on_call(result)
        first = position.step % self._schedule.steps_per_epoch
        for index in range(num_steps):
            self._callbacks.on_train_batch_begin(first + index)
            self._callbacks.on_train_batch_end(first + index, result.step_logs(index))
        return replace(
            position, step=position.step + num_steps, epoch_logs=result.step_logs(num_steps - 1)
        )


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
        if callbacks is not None:
            for index in range(size):
                callbacks.on_test_batch_begin(done + index)
                callbacks.on_test_batch_end(done + index, result.step_logs(index))
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
