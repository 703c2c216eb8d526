"""What a start finds out about a store, and how long it waits for it."""

import pytest

from tests.small_storage import MemoryStorage
from trainer.errors import NoBucketError, RefusedError, StorageError
from trainer.storage.access import try_access, wait_for_access


class Refusing(MemoryStorage):
    """Refuses some operations with an error, a number of times each."""

    def refuse(self, error, times, *names):
        for name in names:
            self._wrap(name, error, times)

    def _wrap(self, name, error, times):
        operation, left = getattr(self, name), [times]

        def call(*args, **kwargs):
            left[0] -= 1
            if left[0] >= 0:
                raise error
            return operation(*args, **kwargs)

        setattr(self, name, call)


class Clock:
    now = 0.0

    def sleep(self, seconds):
        self.now += seconds


@pytest.fixture
def storage():
    return Refusing()


def wait(storage, clock, told, **kwargs):
    return wait_for_access(
        storage, writes=True, seconds=60, on_wait=told.append, sleep=clock.sleep,
        clock=lambda: clock.now, **kwargs,
    )  # fmt: skip


def test_everything_is_tried_and_nothing_left(storage):
    access = try_access(storage, writes=True, clock=lambda: 990.0)
    assert access.refusals == {}
    assert access.clock_ahead == 10.0
    assert storage.objects == {}
    assert try_access(storage, writes=False).clock_ahead is None


def test_each_missing_right_is_named(storage):
    storage.refuse(RefusedError("no"), 9, "create", "write", "delete")
    assert list(try_access(storage, writes=True).refusals) == ["create", "replace", "delete"]


def test_what_is_only_read_has_to_be_readable(storage):
    storage.refuse(RefusedError("no"), 9, "read", "create")
    assert list(try_access(storage, writes=False).refusals) == ["read"]


def test_what_is_out_of_reach_is_tried_once(storage):
    storage.refuse(StorageError("no connection"), 9, "list", "create")
    assert list(try_access(storage, writes=True).refusals) == ["list"]


def test_a_late_right_is_waited_for_and_each_reason_told_once(storage):
    clock, told = Clock(), []
    storage.refuse(StorageError("no name"), 3, "list")
    storage.refuse(RefusedError("no right"), 3, "create")
    assert wait(storage, clock, told).refusals == {}
    assert told == ["no name", "no right"]
    assert 0 < clock.now < 60


def test_after_the_time_the_refusal_is_raised(storage):
    clock = Clock()
    storage.refuse(RefusedError("no right"), 10**9, "delete")
    with pytest.raises(RefusedError, match="no right"):
        wait(storage, clock, [])
    assert 60 <= clock.now < 70


def test_a_missing_bucket_is_not_waited_for(storage):
    clock = Clock()
    storage.refuse(NoBucketError("no bucket"), 10**9, "list")
    with pytest.raises(NoBucketError):
        wait(storage, clock, [])
    assert clock.now == 0
