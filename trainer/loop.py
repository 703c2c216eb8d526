"""The inner loop: calls of several compiled steps each, and what happens around them.

Keras callbacks are driven with the usual hooks and global logs. Between two calls, and only
there, the loop looks up: at the stop request, and whether a save is due.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Protocol

from trainer.checkpoint.position import Position, Schedule
from trainer.compiled_steps import CallResult, Steps

# A validation pass: is given what to do between its compiled calls, returns metrics by name.
Validate = Callable[[Callable[[], None]], dict[str, float]]

# Without a measurement yet, one step: the first call also traces and compiles.
_MAX_STEPS_PER_CALL = 100


class Boundary(Protocol):
    """What happens between two calls; the loop asks, others decide."""

    def steps_until_save(self, step: int) -> int | None:
        """Steps to the next one that must end a call."""
        ...

    def between_calls(self, position: Position) -> None:
        """Save if due; raise StoppedError after a save when told to stop."""
        ...

    def inside_fit(self, step: int) -> None:
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
        train: Steps,
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
        result = self._train(iterator, num_steps, self._calls.wanted)
        self._calls.measured(num_steps, time.monotonic() - started, result.next_size)
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
    """Steps for the next call: as configured, or as many as the allowed seconds hold.

    `wanted` is what this worker would choose, `size` what all have agreed on.
    """

    def __init__(self, schedule: Schedule) -> None:
        self._seconds = schedule.call_seconds
        self._limit = schedule.steps_per_call or _MAX_STEPS_PER_CALL
        self._calls = 0
        self.size = self.wanted = 1

    def measured(self, num_steps: int, seconds: float, agreed: int | None = None) -> None:
        """Learn from a call; the first is not counted, it compiled.

        agreed: the size of the next one, where it is not this worker's own decision.
        """
        self._calls += 1
        if self._calls > 1:
            fits = int(self._seconds * num_steps / max(seconds, 1e-6))
            self.wanted = max(1, min(fits, 2 * self.wanted, self._limit))
        self.size = self.wanted if agreed is None else agreed


def run_pass(
    model: Any,
    test: Steps,
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
        result = test(iterator, size, calls.wanted)
        calls.measured(size, time.monotonic() - started, result.next_size)
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
