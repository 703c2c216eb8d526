"""Saves in the background: one at a time, storage errors counted, all others raised."""

import threading
import warnings
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from tests.small_storage import FailingStorage, MemoryStorage
from trainer.checkpoint.saver import Save, Saver
from trainer.checkpoint.store import CheckpointStore
from trainer.config import CheckpointConfig
from trainer.errors import NonFiniteError, StorageError
from trainer.metrics import Metrics
from trainer.storage import Entry

DEADLINE = 30.0


def save_of(step: int, value: Any = 1.0, dtype: Any = np.float32, **metrics: float) -> Save:
    """A save of one weight."""
    return Save(step, {"model/0/w": np.full(4, value, dtype)}, {}, metrics)


def saver_of(storage: Any, registry: CollectorRegistry | None = None, **config: Any) -> Saver:
    """A saver into the storage."""
    metrics = Metrics(registry or CollectorRegistry())
    return Saver(CheckpointStore(storage), CheckpointConfig(**config), metrics)


def steps_in(storage: MemoryStorage) -> list[int]:
    return [found.step for found in CheckpointStore(storage).all() if found.committed]


class SlowStorage(MemoryStorage):
    """Writes wait until they are let go; counts how many wait at most."""

    def __init__(self) -> None:
        super().__init__()
        self.entered, self.go = threading.Event(), threading.Event()

    def write(self, path: str, data: bytes) -> Entry:
        self.entered.set()
        assert self.go.wait(DEADLINE)
        return super().write(path, data)


def test_a_save_runs_while_the_caller_goes_on() -> None:
    storage = SlowStorage()
    saver = saver_of(storage)
    saver.save(save_of(5))
    assert storage.entered.wait(DEADLINE)
    assert (saver.wait(0.01), steps_in(storage)) == (False, [])
    storage.go.set()
    assert (saver.wait(DEADLINE), steps_in(storage)) == (True, [5])


def test_without_background_a_save_is_done_on_return() -> None:
    storage = MemoryStorage()
    saver_of(storage, background=False).save(save_of(5))
    assert steps_in(storage) == [5]


@pytest.mark.parametrize("fail_at", range(4))
def test_a_storage_error_is_counted_and_the_next_save_succeeds(fail_at: int) -> None:
    storage, registry = MemoryStorage(), CollectorRegistry()
    failing = FailingStorage(storage, fail_at)
    saver = saver_of(failing, registry)
    saver.save(save_of(5))
    assert saver.wait(DEADLINE)
    assert isinstance(saver.last_error, StorageError)
    failing.heal()
    saver.save(save_of(6))
    assert (saver.wait(DEADLINE), saver.last_error, steps_in(storage)) == (True, None, [6])
    assert [num_saves(registry, result) for result in ("failure", "success")] == [1, 1]


def num_saves(registry: CollectorRegistry, result: str) -> float | None:
    """What the metrics count."""
    return registry.get_sample_value("trainer_checkpoint_saves_total", {"result": result})


def test_any_other_error_is_raised_on_the_waiting_thread() -> None:
    saver = saver_of(MemoryStorage())
    saver.save(Save(5, {"model/0/w": np.ones(3)}, {"position": object()}, {}))
    with pytest.raises(TypeError, match="not JSON serializable"):
        saver.wait(DEADLINE)
    assert saver.wait(DEADLINE)


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, [1, np.inf, -np.inf, 0]], ids=str)
def test_weights_that_are_no_numbers_are_never_committed(value: Any, dtype: Any) -> None:
    storage = MemoryStorage()
    saver = saver_of(storage)
    with warnings.catch_warnings(action="error"):
        saver.save(save_of(5, value, dtype))
        with pytest.raises(NonFiniteError, match="model/0/w are NaN or infinite at step 5"):
            saver.wait(DEADLINE)
    assert storage.objects == {}


def test_large_weights_are_numbers() -> None:
    storage = MemoryStorage()
    saver_of(storage, background=False).save(save_of(5, 1.7e308, np.float64))
    assert steps_in(storage) == [5]


def test_retention_is_applied_after_each_save() -> None:
    storage = MemoryStorage()
    best = {"metric": "val_loss", "mode": "min"}
    saver = saver_of(storage, background=False, keep_last=2, best=best)
    for step, loss in [(10, 2.0), (20, 1.0), (30, 3.0), (40, 4.0), (50, 5.0)]:
        saver.save(save_of(step, val_loss=loss))
    assert steps_in(storage) == [20, 40, 50]


def test_retention_leaves_what_a_later_holder_saved() -> None:
    storage = MemoryStorage()
    for step in (5, 6):
        CheckpointStore(storage, fence=1).save(step, {}, state={}, metrics={})
    saver = saver_of(storage, background=False, keep_last=1)
    for step in (10, 20):
        saver.save(save_of(step))
    found = [(found.fence, found.step) for found in CheckpointStore(storage).all()]
    assert found == [(0, 20), (1, 5), (1, 6)]


def test_retention_reads_the_metrics_of_an_earlier_life() -> None:
    storage = MemoryStorage()
    best = {"metric": "val_loss", "mode": "min"}
    for steps in ([(10, 1.0)], [(20, 2.0), (30, 3.0)]):
        saver = saver_of(storage, background=False, keep_last=1, best=best)
        for step, loss in steps:
            saver.save(save_of(step, val_loss=loss))
    assert steps_in(storage) == [10, 30]


def test_failing_retention_is_no_failed_save() -> None:
    class Undeletable(MemoryStorage):
        def delete(self, path: str) -> None:
            raise StorageError("read-only now")

    storage = Undeletable()
    saver = saver_of(storage, background=False, keep_last=1)
    for step in (10, 20):
        saver.save(save_of(step))
    assert (saver.last_error, steps_in(storage)) == (None, [10, 20])


def test_a_commit_is_announced() -> None:
    told = []
    saver = Saver(
        CheckpointStore(MemoryStorage()), CheckpointConfig(), Metrics(CollectorRegistry()),
        on_saved=lambda manifest, seconds: told.append((manifest.step, seconds >= 0)),
    )  # fmt: skip
    saver.save(save_of(5))
    saver.wait(DEADLINE)
    assert told == [(5, True)]
