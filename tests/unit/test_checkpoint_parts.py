"""Parts of a checkpoint: a few at a time, and none under way once the attempt is over."""

import threading
from contextlib import suppress
from typing import Any

import numpy as np
import pytest

from tests.small_storage import MemoryStorage
from trainer.checkpoint.store import CheckpointStore
from trainer.errors import StorageError
from trainer.storage import Entry
from trainer.storage.parallel import NUM_THREADS

DEADLINE = 10.0
FOLDER = "step-00000001-f0"
NUM_PARTS = 3 * NUM_THREADS
ARRAYS = {f"model/{i}/w": np.full(25, i, np.float32) for i in range(NUM_PARTS)}


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """One part an array."""
    monkeypatch.setattr("trainer.checkpoint.parts.PART_BYTES", 100)


class Crowd(MemoryStorage):
    """Parts wait until so many are under way, or in vain; notes how many were at most."""

    def __init__(self, size: int, patience: float = DEADLINE, **contents: Any) -> None:
        super().__init__(**contents)
        self._gate, self._lock = threading.Barrier(size, timeout=patience), threading.Lock()
        self._under_way = self.most = 0

    def _meet(self) -> None:
        with self._lock:
            self._under_way += 1
            self.most = max(self.most, self._under_way)
        with suppress(threading.BrokenBarrierError):
            self._gate.wait()
        with self._lock:
            self._under_way -= 1

    def write(self, path: str, data: bytes) -> Entry:
        if "part" in path:
            self._meet()
        return super().write(path, data)


class Readers(Crowd):
    """The same of reads."""

    write = MemoryStorage.write

    def stat(self, path: str) -> Entry:
        return MemoryStorage(self.objects, self.times).stat(path)

    def read(self, path: str, **kwargs: Any) -> bytes:
        if "part" in path:
            self._meet()
        return super().read(path, **kwargs)


def save(storage: MemoryStorage) -> None:
    CheckpointStore(storage).save(1, ARRAYS, state={}, metrics={})


def test_parts_are_written_four_at_a_time() -> None:
    storage = Crowd(NUM_THREADS)
    save(storage)
    assert storage.most == NUM_THREADS == 4
    assert len(CheckpointStore(storage).manifest(FOLDER).parts) == NUM_PARTS


def test_parts_are_read_four_at_a_time_and_come_in_their_order() -> None:
    written = MemoryStorage()
    save(written)
    storage = Readers(NUM_THREADS, objects=written.objects, times=written.times)
    found = CheckpointStore(storage).read(FOLDER).arrays
    assert storage.most == NUM_THREADS
    assert list(found) == list(ARRAYS)
    assert all(np.array_equal(found[name], array) for name, array in ARRAYS.items())


def test_huge_parts_are_in_memory_one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainer.checkpoint.parts.PART_BYTES", 99)
    storage = Crowd(2, patience=0.05)
    save(storage)
    assert storage.most == 1


class SlowAndBroken(MemoryStorage):
    """Of the first writes one fails; the others end when it has, or later than they should."""

    def __init__(self) -> None:
        super().__init__()
        self._all_began, self._lock = threading.Barrier(NUM_THREADS), threading.Lock()
        self._has_failed, self._is_listed = threading.Event(), threading.Event()
        self._failing: threading.Thread | None = None
        self.begun = 0

    def write(self, path: str, data: bytes) -> Entry:
        me = threading.current_thread()
        with self._lock:
            self.begun += 1
        self._all_began.wait(DEADLINE)
        with self._lock:
            if self._failing is None and me is not threading.main_thread():
                self._failing = me
                self._has_failed.set()
                raise StorageError("the disk is full")
        assert self._has_failed.wait(DEADLINE)
        self._failing.join(DEADLINE)
        if me is not threading.main_thread():
            # Slow: whoever looks for what the attempt left, must not do so before.
            self._is_listed.wait(0.2)
        return super().write(path, data)

    def list(self, prefix: str = "") -> Any:
        self._is_listed.set()
        return super().list(prefix)


def test_the_first_error_ends_the_attempt_and_nothing_is_left_of_it() -> None:
    storage, before = SlowAndBroken(), threading.active_count()
    with pytest.raises(StorageError, match="the disk is full"):
        save(storage)
    assert storage.begun == NUM_THREADS
    assert storage.objects == {}
    assert threading.active_count() == before
