"""From which step to which a trace is taken, whatever training does meanwhile."""

from typing import Any

import pytest
import structlog
import tensorflow as tf

from tests.small_storage import FailingStorage, MemoryStorage, paths
from trainer.callbacks import trace as trace_module
from trainer.callbacks.trace import StepTrace
from trainer.config import validate
from trainer.config.models import ProfileConfig
from trainer.errors import ConfigError

SPE = 9


def train(trace: StepTrace, start: int, end: int) -> None:
    """The hooks of steps start + 1 to end, as the loop calls them; epochs have SPE steps."""
    for step in range(start, end):
        epoch, batch = divmod(step, SPE)
        if batch == 0 or step == start:
            trace.on_epoch_begin(epoch)
        tf.add(1, 1)
        trace.on_train_batch_end(batch)


@pytest.fixture
def storage() -> MemoryStorage:
    """A run's folder."""
    return MemoryStorage()


@pytest.fixture
def take(storage: MemoryStorage) -> Any:
    """A function: start, end, first, last, where to -> what was logged."""

    def took(start: int, end: int, first: int, last: int, to: Any = storage) -> list[Any]:
        with structlog.testing.capture_logs() as said:
            log = structlog.get_logger()
            trace = StepTrace(range(first, last + 1), to, log, start=start, steps_per_epoch=SPE)
            train(trace, start, end)
            trace.on_train_end()
            trace.close()
        return said

    return took


# start, end, first, last, name
@pytest.mark.parametrize(
    ("start", "end", "first", "last", "name"),
    [
        (0, 18, 11, 13, "steps-11-13"),
        (0, 18, 1, 1, "steps-1-1"),
        (0, 18, 10, 10, "steps-10-10"),  # an epoch's first
        (0, 18, 9, 10, "steps-9-10"),  # validation is between them
        (9, 18, 8, 11, "steps-10-11"),  # went on inside of it
        (12, 18, 11, 13, "steps-13-13"),
        (0, 18, 17, 30, "steps-17-18"),  # training ended before its last
    ],
)
def test_which_steps_are_traced(
    take: Any, storage: MemoryStorage, start: int, end: int, first: int, last: int, name: str
) -> None:
    (said,) = take(start, end, first, last)
    assert said["event"] == "trace"
    assert paths(storage) == [f"plugins/profile/{name}/worker-0.xplane.pb"]
    assert len(storage.objects[paths(storage)[0]]) > 0


def test_steps_that_are_done_or_never_come_are_not(take: Any, storage: MemoryStorage) -> None:
    assert take(13, 18, 11, 13) == []
    (said,) = take(0, 18, 19, 20)
    assert said["reason"] == "training ended at step 18, before step 19"
    assert paths(storage) == []


def test_what_broke_off_is_left_and_the_next_one_can_be_taken(
    take: Any, storage: MemoryStorage
) -> None:
    trace = StepTrace(range(2, 5), storage, None, start=0, steps_per_epoch=SPE)
    train(trace, 0, 3)
    trace.close()
    assert paths(storage) == []
    assert [said["event"] for said in take(2, 5, 2, 4)] == ["trace"]


def test_validation_of_an_epoch_that_was_ended_is_none_of_its_steps(
    storage: MemoryStorage,
) -> None:
    trace = StepTrace(range(10, 12), storage, None, start=SPE, steps_per_epoch=SPE)
    trace.on_epoch_begin(0)  # goes on with its validation
    tf.profiler.experimental.start("")
    tf.profiler.experimental.stop(save=False)


def test_a_trace_that_fails_is_a_warning(
    take: Any, storage: MemoryStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    tf.profiler.experimental.start("")
    (said,) = take(0, 18, 11, 13)
    tf.profiler.experimental.stop(save=False)
    assert (said["event"], said["reason"]) == ("no trace", "Another profiler is running.")
    (said,) = take(0, 18, 11, 13, FailingStorage(storage, 0))
    assert "operation 0, write, failed" in said["reason"]
    monkeypatch.setattr(trace_module, "MOST_BYTES", 10)
    (said,) = take(0, 18, 11, 13)
    assert "of at most 10: take fewer steps" in said["reason"]
    assert paths(storage) == []


@pytest.mark.parametrize(
    ("keys", "steps"),
    [({"first": 3}, range(3, 4)), ({"first": 3, "last": 102}, range(3, 103))],
)
def test_steps_of_a_configuration(keys: dict[str, int], steps: range) -> None:
    assert validate(ProfileConfig, keys, source="run.yaml").steps == steps


@pytest.mark.parametrize("keys", [{"first": 3, "last": 2}, {"first": 3, "last": 103}])
def test_a_range_that_is_refused(keys: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match="last must be 3 to 102, with first: 3"):
        validate(ProfileConfig, keys, source="run.yaml")
