"""Values loaded once and ahead of their use, within a bound."""

import subprocess
import sys
import threading
from collections import Counter

import pytest

from trainer.data.block_cache import BlockCache

WAIT = 30


class Loads:
    """Loads key -> 10 * key, counts, and may be held or made to fail."""

    def __init__(self) -> None:
        self.counts: Counter[int] = Counter()
        self.errors: dict[int, Exception] = {}
        self.open = threading.Event()
        self.open.set()
        self.started: set[int] = set()
        self.changed = threading.Condition()

    def __call__(self, key: int) -> int:
        with self.changed:
            self.started.add(key)
            self.counts[key] += 1
            self.changed.notify_all()
        assert self.open.wait(WAIT)
        if error := self.errors.pop(key, None):
            raise error
        return 10 * key

    def wait_for(self, *keys: int) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: self.started >= set(keys), WAIT)


@pytest.fixture
def loads() -> Loads:
    return Loads()


def wait_until_idle() -> None:
    for thread in threading.enumerate():
        if thread.name == "block-loader":
            thread.join(WAIT)


def test_what_is_expected_is_loaded_once_and_only_that(loads: Loads) -> None:
    cache = BlockCache(loads, size=10, num_loaders=3)
    cache.expect([5, 3, 5, 8])
    wait_until_idle()
    assert loads.counts == {5: 1, 3: 1, 8: 1}
    assert [cache.get(key) for key in (3, 5, 8)] == [30, 50, 80]
    assert loads.counts.total() == 3


def test_who_needs_a_value_waits_for_the_load_that_runs(loads: Loads) -> None:
    loads.open.clear()
    cache = BlockCache(loads, size=10, num_loaders=1)
    cache.expect([1])
    loads.wait_for(1)
    found: list[int] = []
    reader = threading.Thread(target=lambda: found.append(cache.get(1)))
    reader.start()
    loads.open.set()
    reader.join(WAIT)
    assert (found, loads.counts) == ([10], {1: 1})


def test_no_more_is_loaded_ahead_than_there_is_room_for(loads: Loads) -> None:
    cache = BlockCache(loads, size=4, num_loaders=2)
    cache.expect(range(100))
    wait_until_idle()
    assert loads.counts == dict.fromkeys(range(4), 1)
    cache.expect(range(2, 100))
    wait_until_idle()
    assert loads.counts == dict.fromkeys(range(6), 1)


def test_what_is_expected_makes_no_room_for_what_is_expected_later(loads: Loads) -> None:
    cache = BlockCache(loads, size=3, num_loaders=1)
    for key in (1, 2, 3):
        cache.get(key)
    # 1 is the least recently used, and needed next.
    cache.expect([1, 7])
    wait_until_idle()
    assert [cache.get(key) for key in (1, 7, 3)] == [10, 70, 30]
    assert loads.counts == dict.fromkeys((1, 2, 3, 7), 1)


def test_the_rest_is_dropped_on_demand(loads: Loads) -> None:
    cache = BlockCache(loads, size=3)
    for key in (1, 2):
        cache.get(key)
    cache.expect([2], drop_others=True)
    for key in (1, 2):
        cache.get(key)
    assert loads.counts == {1: 2, 2: 1}


def test_a_new_expectation_replaces_the_last(loads: Loads) -> None:
    loads.open.clear()
    cache = BlockCache(loads, size=4, num_loaders=1)
    cache.expect([1, 2, 3])
    loads.wait_for(1)
    cache.expect([9])
    loads.open.set()
    wait_until_idle()
    assert set(loads.counts) == {1, 9}


def test_an_error_ahead_is_left_to_who_needs_the_value(loads: Loads) -> None:
    loads.errors[2] = OSError("lost")
    cache = BlockCache(loads, size=4, num_loaders=1)
    cache.expect([2, 3])
    wait_until_idle()
    assert loads.counts == {2: 1, 3: 1}
    assert cache.get(2) == 20
    loads.errors[5] = OSError("lost")
    with pytest.raises(OSError, match="lost"):
        cache.get(5)
    assert cache.get(5) == 50


def test_loaders_hold_no_exit_back() -> None:
    code = (
        "import threading\n"
        "from trainer.data.block_cache import BlockCache\n"
        "begun = threading.Event()\n"
        "def load(key):\n"
        "    begun.set()\n"
        "    threading.Event().wait()\n"
        "BlockCache(load, size=2, num_loaders=2).expect([1, 2])\n"
        "begun.wait()\n"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0
