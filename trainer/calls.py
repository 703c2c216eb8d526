"""Calls of several compiled steps each: how many, the hooks of callbacks, a pass over a split."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from trainer.checkpoint.position import Schedule
from trainer.errors import ConfigError
from trainer.steps import Steps

Logs = dict[str, float]
# One replica's work on its share of a step's records: (x, y) or (x, y, weight) -> logs, scalars.
Step = Callable[[Any], Mapping[str, Any]]

# Without a measurement yet, one step: the first call also traces and compiles.
_MAX_STEPS_PER_CALL = 100
_MOST_OWN_STEPS = 8


def check_number(steps: Mapping[Step | None, Steps]) -> None:
    """ConfigError when a loop seems to make new steps of its own all the time."""
    if len(steps) > _MOST_OWN_STEPS:
        raise ConfigError(
            f"the recipe's loop has more than {_MOST_OWN_STEPS} steps of its own, each compiled: "
            "define a step once, outside of the loop over epochs"
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


def pass_steps(
    model: Any, test: Steps, iterator: Iterator[Any], num_steps: int, *,
    callbacks: Any = None, between: Callable[[], None] = lambda: None,
) -> Iterator[Logs]:  # fmt: skip
    """Evaluate on `num_steps` elements, every record once; yields each step's logs.

    Metrics are those of all records so far: the last step's are the result.
    """
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
        for index in range(size):
            logs = result.step_logs(index)
            for callback in each:
                callback.on_test_batch_begin(done + index, logs={})
            for callback in each:
                callback.on_test_batch_end(done + index, logs=logs)
            yield logs
        done += size
        between()
    if callbacks is not None:
        callbacks.on_test_end(logs)
