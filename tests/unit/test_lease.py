"""The lease: one live holder, taken over when it is gone, and a higher fence each time."""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.small_storage import MemoryStorage
from trainer.checkpoint.holder import Holder, Process, this_holder
from trainer.checkpoint.lease import Timing, acquire, limits
from trainer.errors import CheckpointError, RunHeldError, StorageError
from trainer.storage import Entry, LocalStorage

TIMING = Timing(ttl=60, grace=30)


def other(job: str | None = "other", host: str = "elsewhere") -> Holder:
    return Holder(job=job, process=Process(host=host, boot="b", pid=1, started="1"))


class Waiting:
    """A clock that moves only in sleeps, for the caller and for the store."""

    def __init__(self, storage: MemoryStorage) -> None:
        self.storage, self.slept, self.told = storage, 0.0, []

    def sleep(self, seconds: float) -> None:
        self.slept += seconds
        self.storage.now += seconds

    def acquire(self, holder: Holder):
        return acquire(
            self.storage, holder, TIMING, on_wait=self.told.append, sleep=self.sleep,
            clock=lambda: self.slept,
        )  # fmt: skip


@pytest.fixture
def store() -> MemoryStorage:
    return MemoryStorage()


@pytest.fixture
def waiting(store: MemoryStorage) -> Waiting:
    return Waiting(store)


def test_the_first_holder_has_fence_one(waiting: Waiting) -> None:
    assert waiting.acquire(other()).fence == 1
    assert waiting.slept == 0


def test_a_released_lease_is_taken_at_once_with_a_higher_fence(waiting: Waiting) -> None:
    waiting.acquire(other("a")).release()
    assert waiting.acquire(other("b", "here")).fence == 2
    assert waiting.slept == 0


def test_another_pod_of_the_same_job_takes_over_at_once(waiting: Waiting) -> None:
    first = waiting.acquire(other("a", "pod-1"))
    assert waiting.acquire(other("a", "pod-2")).fence == 2
    with pytest.raises(RunHeldError, match=r"taken over by job a \(process 1 on pod-2\) \(fence 2"):
        first.refresh()
    first.release()
    assert waiting.acquire(other("a", "pod-2")).fence == 3, "the release changed nothing"


def test_f53_a_silent_holder_is_taken_over_by_the_stores_clock(waiting: Waiting) -> None:
    waiting.acquire(other("a"))
    waiting.storage.now += 50
    assert waiting.acquire(other("b", "here")).fence == 2
    assert 10 < waiting.slept <= 14
    assert waiting.told == ["run memory: is held by job a (process 1 on elsewhere), seen 50 s ago"]


def test_a_live_holder_is_waited_for_and_then_the_second_is_refused(
    store: MemoryStorage, waiting: Waiting
) -> None:
    first = waiting.acquire(other("a"))
    plain_sleep = waiting.sleep

    def sleep(seconds: float) -> None:
        plain_sleep(seconds)
        if waiting.slept % 20 < 2:
            first.refresh()

    waiting.sleep = sleep
    with pytest.raises(RunHeldError, match=r"held by job a .* seen \d+ s ago: wait for its end"):
        waiting.acquire(other("b", "here"))
    assert TIMING.ttl + TIMING.grace <= waiting.slept < TIMING.ttl + TIMING.grace + 3
    first.refresh()


@pytest.mark.parametrize("code", ["pass", "import time; time.sleep(600)"])
def test_a_process_of_this_machine_is_looked_for(tmp_path: Path, code: str) -> None:
    process = subprocess.Popen([sys.executable, "-c", code])
    try:
        own = this_holder({})
        started = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[19]
        theirs = own.process.model_copy(update={"pid": process.pid, "started": started})
        storage = LocalStorage(tmp_path)
        acquire(storage, Holder(process=theirs), TIMING)
        if code == "pass":
            process.wait()
            assert acquire(storage, own, TIMING).fence == 2
        else:
            with pytest.raises(RunHeldError, match=f"process {process.pid} on"):
                acquire(storage, own, TIMING, sleep=lambda _: pytest.fail("waited"))
    finally:
        process.kill()
        process.wait()


def test_a_number_that_another_process_got_is_not_the_holder(tmp_path: Path) -> None:
    own = this_holder({})
    earlier = own.process.model_copy(update={"started": "1"})
    acquire(LocalStorage(tmp_path), Holder(process=earlier), TIMING)
    assert acquire(LocalStorage(tmp_path), own, TIMING).fence == 2


def test_the_holder_is_the_job_where_there_is_one() -> None:
    assert this_holder({"TRAINER_JOB_ID": "uid"}).job == "uid"
    assert this_holder({}).process.pid == os.getpid()


def test_limits_say_what_lower_fences_may_restore(waiting: Waiting) -> None:
    first = waiting.acquire(other("a"))
    assert limits(waiting.storage) == {}
    first.release()
    second = waiting.acquire(other("a"))
    second.restored(1, 40)
    assert limits(waiting.storage) == {1: 40}
    # The third finds nothing of the second, the fourth a commit of the third.
    third = waiting.acquire(other("a"))
    third.restored(1, 40)
    assert limits(waiting.storage) == {1: 40, 2: -1}
    fourth = waiting.acquire(other("a"))
    fourth.restored(3, 55)
    assert limits(waiting.storage) == {1: 40, 2: -1, 3: 55}


def test_a_fall_back_lowers_a_limit(waiting: Waiting) -> None:
    waiting.acquire(other("a"))
    waiting.acquire(other("a")).restored(1, 40)
    waiting.acquire(other("a")).restored(1, 20)
    assert limits(waiting.storage) == {1: 20, 2: -1}
    waiting.acquire(other("a")).restored(0, -1)
    assert limits(waiting.storage) == {0: -1, 1: -1, 2: -1, 3: -1}


@pytest.mark.parametrize("data", [b"", b"{}", b"[" * 9000, b'{"format": 2}', b"\xff"])
def test_a_damaged_lease_is_named(waiting: Waiting, data: bytes) -> None:
    waiting.storage.write("lease.json", data)
    with pytest.raises(CheckpointError, match=r"lease.json in memory: is damaged"):
        waiting.acquire(other())


def test_a_kept_lease_is_released_at_the_end(waiting: Waiting) -> None:
    with waiting.acquire(other("a")).kept(TIMING):
        pass
    assert waiting.acquire(other("b", "here")).fence == 2
    assert waiting.slept == 0


def test_a_store_that_does_not_answer_holds_no_process_back(monkeypatch: Any) -> None:
    monkeypatch.setattr("trainer.checkpoint.lease._RELEASE_SECONDS", 0.1)
    answer = threading.Event()

    class Stalled(MemoryStorage):
        def replace(self, path: str, data: bytes, *, version: str) -> Entry | None:
            assert answer.wait(60)
            return super().replace(path, data, version=version)

    lease = acquire(Stalled(), other("a"), TIMING)
    before = {*threading.enumerate()}  # a session in this process may keep its own lease
    with lease.kept(TIMING):
        (keeper,) = {*threading.enumerate()} - before
    is_waiting = keeper.is_alive()
    answer.set()
    keeper.join(60)
    assert is_waiting


def test_the_fence_is_above_those_that_are_known(waiting: Waiting) -> None:
    lease = acquire(waiting.storage, other(), TIMING, above=7)
    assert lease.fence == 8
    lease.release()
    lease = acquire(waiting.storage, other(), TIMING, above=3)
    assert lease.fence == 9
    lease.release()
    # As of a lease that was put back from a copy.
    assert acquire(waiting.storage, other(), TIMING, above=20).fence == 21


def test_a_lease_that_was_only_touched_is_still_held(tmp_path: Path) -> None:
    lease = acquire(LocalStorage(tmp_path), this_holder({}))
    os.utime(tmp_path / "lease.json", (1, 1))
    lease.refresh()
    assert json.loads((tmp_path / "lease.json").read_text())["refreshed"] == 1
    os.utime(tmp_path / "lease.json", (1, 1))
    lease.release()
    assert json.loads((tmp_path / "lease.json").read_text())["is_released"]


def test_what_is_no_file_in_its_place_is_named(tmp_path: Path) -> None:
    (tmp_path / "lease.json").mkdir()
    with pytest.raises(StorageError, match="can neither be read nor written: remove"):
        acquire(LocalStorage(tmp_path), this_holder({}), sleep=lambda _: None)


def test_a_lease_from_the_future_has_run_out(waiting: Waiting) -> None:
    waiting.storage.now += 10_000
    waiting.acquire(other("a"))
    waiting.storage.now -= 10_000
    assert waiting.acquire(other("b", "here")).fence == 2
    assert waiting.slept == 0


class Losing(MemoryStorage):
    """Its next so many replies to a replacement are lost, after it was made."""

    lost = 0

    def replace(self, path: str, data: bytes, *, version: str) -> Entry | None:
        found = super().replace(path, data, version=version)
        if self.lost:
            self.lost -= 1
            raise StorageError("no reply")
        return found


def test_a_write_whose_reply_was_lost_is_no_take_over() -> None:
    store = Losing()
    lease = Waiting(store).acquire(other("a"))

    def lose(change: Any) -> None:
        store.lost = 1
        with pytest.raises(StorageError, match="no reply"):
            change()

    lose(lease.refresh)
    lease.refresh()
    lose(lease.raise_fence)
    lose(lease.refresh)
    lease.raise_fence()
    assert lease.fence == 2
    lose(lambda: lease.restored(1, 40))
    lease.restored(1, 40)
    assert limits(store) == {1: 40}
    lose(lease.refresh)
    Waiting(store).acquire(other("a", "pod-2"))
    with pytest.raises(RunHeldError, match="taken over by job a"):
        lease.refresh()
