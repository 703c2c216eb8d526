"""A crash at any moment: what the next life of a run finds, and that it can go on from there.

A series of saves is recorded as the changes that it makes to the stores, parts in an order that a
seed draws from those that four threads may take. The state before each change, and that with half
of a file that it adds, is one that a crash may leave. Markers and the lease are never there by
half: that is what `Storage` promises, and what no protocol could do without.
"""

import random
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from tests.small_storage import MemoryStorage
from trainer.checkpoint.holder import Holder, this_holder
from trainer.checkpoint.inventory import take_inventory
from trainer.checkpoint.lease import acquire
from trainer.checkpoint.saver import Save, Saver
from trainer.checkpoint.store import Checkpoint
from trainer.config import CheckpointConfig
from trainer.errors import RunHeldError, StorageError
from trainer.metrics import Metrics
from trainer.run.run_dir import RunDir
from trainer.storage import Entry
from trainer.storage.parallel import NUM_THREADS

DEADLINE = 10.0
RUN, CHECKPOINTS = "memory:", "memory:/checkpoints"
NUM_PARTS, PART_BYTES = NUM_THREADS + 2, 12
# Every life is a pod of one job: it takes the run over at once.
HOLDER = Holder(job="job", process=this_holder().process)
CONFIG = CheckpointConfig(keep_last=2, best={"metric": "loss", "mode": "min"}, background=False)

# Which save of the series; None is the run's beginning.
Number = int | None


@pytest.fixture(autouse=True)
def one_part_an_array(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainer.checkpoint.parts.PART_BYTES", PART_BYTES)


def arrays_of(number: int) -> dict[str, Any]:
    """Each tells of which save it is."""
    return {f"model/{i}/w": np.full(3, number + i / 10, np.float32) for i in range(NUM_PARTS)}


def number_of(checkpoint: Checkpoint | None) -> Number:
    """Of which save a checkpoint is, wholly."""
    if checkpoint is None:
        return None
    number = int(checkpoint.manifest.state["number"])
    wanted = arrays_of(number)
    assert checkpoint.arrays.keys() == wanted.keys()
    assert all(np.array_equal(checkpoint.arrays[name], wanted[name]) for name in wanted)
    return number


class Life:
    """One life of the run: takes it over, restores, saves."""

    def __init__(self, stores: dict[str, Any]) -> None:
        lease = acquire(stores[RUN], HOLDER)
        self.run = RunDir(RUN, stores.__getitem__, clock=lambda: stores[RUN].now, lease=lease)
        restored = self.run.restore()
        self.restored = number_of(restored.checkpoint)
        self.on_saved: Callable[[int], None] = lambda _number: None
        self.saver = Saver(
            self.run.checkpoints, CONFIG, Metrics(CollectorRegistry()),
            damaged=restored.damaged, before_deleting=self.run.refresh_lease,
            on_saved=lambda manifest, _seconds: self.on_saved(manifest.state["number"]),
        )  # fmt: skip

    def save(self, number: int, step: int, loss: float) -> None:
        self.saver.save(Save(step, arrays_of(number), {"number": number}, {"loss": loss}))


# ---- recording -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Change:
    """An object becomes `data`, or goes (None), and what holds at that moment.

    candidates: the saves that a restore may give. damaged: fence and step of checkpoints whose
    files somebody spoilt.
    """

    url: str
    path: str
    data: bytes | None
    candidates: frozenset[Number]
    damaged: frozenset[tuple[int, int]]


class Turns:
    """Lets the writers of parts go one by one, each drawn from all that are under way."""

    def __init__(self, seed: int) -> None:
        self._draw, self._changed = random.Random(seed), threading.Condition()
        self._waiting: list[str] = []
        self._left, self._lot = NUM_PARTS, self._draw.random()

    def take(self, path: str, write: Callable[[], Entry]) -> Entry:
        with self._changed:
            self._waiting.append(path)
            self._changed.notify_all()
            assert self._changed.wait_for(lambda: self._chosen() == path, DEADLINE)
            entry = write()
            self._waiting.remove(path)
            self._left, self._lot = self._left - 1 or NUM_PARTS, self._draw.random()
            self._changed.notify_all()
            return entry

    def _chosen(self) -> str | None:
        if len(self._waiting) < min(NUM_THREADS, self._left):
            return None
        return sorted(self._waiting)[int(self._lot * len(self._waiting))]


class Recorded(MemoryStorage):
    """A store whose changes are noted; it refuses paths that hold `refused`."""

    def __init__(self, url: str, note: Callable[[str, str, bytes | None], None], turns: Turns):
        super().__init__(url=url)
        self._note, self._turns, self.refused = note, turns, "?"

    def write(self, path: str, data: bytes) -> Entry:
        if self.refused in path:
            raise StorageError(f"{path} is refused")
        if path.endswith(".safetensors"):
            return self._turns.take(path, lambda: self.change(path, data))
        return self.change(path, data)

    def change(self, path: str, data: bytes) -> Entry:
        self._note(self.url, path, data)
        return super().write(path, data)

    def delete(self, path: str) -> None:
        self._note(self.url, path, None)
        super().delete(path)


class Series:
    """Saves with all that may come between them; `changes` is what they did to the stores."""

    def __init__(self, seed: int) -> None:
        self.changes: list[Change] = []
        self._acknowledged: list[Number] = [None]
        self._under_way: Number = None
        self._damaged: frozenset[tuple[int, int]] = frozenset()
        turns = Turns(seed)
        self._stores = {url: Recorded(url, self._note, turns) for url in (RUN, CHECKPOINTS)}
        self._record()
        self._note(RUN, "the end", b"")

    def _record(self) -> None:
        first = Life(self._stores)
        self._save(first, 1, step=10, loss=5.0)
        self._save(first, 2, step=20, loss=1.0)
        self._save(first, 3, step=30, loss=3.0)
        self._save(first, 4, step=40, loss=2.0)
        self._damage(fence=1, step=40)
        second = Life(self._stores)
        assert second.restored == 3
        with pytest.raises(RunHeldError):  # too late, as its holder learns when it has committed
            first.save(5, step=50, loss=0.1)
        self._save(second, 6, step=40, loss=4.0)
        self._save(second, 7, step=50, loss=0.5)
        # Stopped inside that step's validation, and then after it.
        self._fail(second, 8, step=50)
        self._save(second, 9, step=50, loss=0.6)
        for store in self._stores.values():
            store.now += 2 * 86_400
        self._save(second, 10, step=60, loss=7.0)
        self._save(second, 11, step=70, loss=8.0)

    def _save(self, life: Life, number: int, step: int, loss: float) -> None:
        self._under_way = number
        life.on_saved = self._acknowledge
        life.save(number, step, loss)
        assert self._acknowledged[-1] == number

    def _acknowledge(self, number: int) -> None:
        if number == self._under_way:  # not what comes too late
            self._acknowledged.append(number)
            self._under_way = None

    def _fail(self, life: Life, number: int, step: int) -> None:
        store = self._stores[CHECKPOINTS]
        store.refused = "manifest.json"
        life.save(number, step, loss=0.0)
        assert isinstance(life.saver.last_error, StorageError)
        store.refused = "?"

    def _damage(self, fence: int, step: int) -> None:
        """Spoil the newest checkpoint."""
        store = self._stores[CHECKPOINTS]
        part = next(path for path in store.objects if path.startswith(f"step-{step:08d}-f{fence}"))
        store.change(part, store.objects[part][:-1] + b"?")
        self._acknowledged.pop()
        self._damaged |= {(fence, step)}

    def _note(self, url: str, path: str, data: bytes | None) -> None:
        last = self._acknowledged[-1]
        candidates = frozenset({last, self._under_way or last})
        self.changes.append(Change(url, path, data, candidates, self._damaged))


# ---- replaying -------------------------------------------------------------------------------


def crashes(changes: list[Change]) -> Iterator[tuple[dict[str, MemoryStorage], Change]]:
    """What the stores hold when a crash comes instead of a change, or in the middle of it.

    A change that is made and whose reply is lost leaves what the next one begins with.
    """
    state: dict[str, dict[str, bytes]] = {RUN: {}, CHECKPOINTS: {}}
    for change in changes:
        objects = state[change.url]
        yield stores_of(state), change
        if change.data is None:
            objects.pop(change.path, None)
            continue
        if change.path.endswith((".safetensors", "manifest.json")) and change.path not in objects:
            objects[change.path] = change.data[: len(change.data) // 2]
            yield stores_of(state), change
        objects[change.path] = change.data


def stores_of(state: dict[str, dict[str, bytes]]) -> dict[str, MemoryStorage]:
    return {
        url: MemoryStorage(dict(objects), dict.fromkeys(objects, 1000.0), url=url)
        for url, objects in state.items()
    }


@pytest.mark.parametrize("seed", [0, *(pytest.param(n, marks=pytest.mark.long) for n in (1, 2))])
def test_a_crash_at_any_moment_costs_no_acknowledged_save(seed: int) -> None:
    num_states = 0
    for stores, change in crashes(Series(seed).changes):
        life = Life(stores)
        assert life.restored in change.candidates, change
        for found in take_inventory(life.run.checkpoints, verify=True):
            is_spoilt = (found.fence, found.step) in change.damaged
            assert found.verified or is_spoilt or not found.committed, (found.problem, change)
        life.save(99, step=1000, loss=9.0)
        assert Life(stores).restored == 99, change
        num_states += 1
    assert num_states > 200


def test_a_seed_is_an_order_of_parts() -> None:
    def order(seed: int) -> list[str]:
        return [change.path[-17:] for change in Series(seed).changes if "part-" in change.path]

    assert order(0) == order(0)
    assert len({tuple(order(seed)) for seed in range(3)}) == 3
