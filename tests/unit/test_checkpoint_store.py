"""The commit protocol: a checkpoint is there completely and verified, or not at all."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.small_storage import FailingStorage, MemoryStorage
from trainer.checkpoint.format import crc32c
from trainer.checkpoint.parts import DamagedError
from trainer.checkpoint.restore import newest
from trainer.checkpoint.store import ORPHAN_SECONDS, CheckpointStore
from trainer.errors import CheckpointError, StorageError
from trainer.storage import Entry, open_storage


def arrays_of(value: float) -> dict[str, Any]:
    """Model and optimizer state that tells saves apart."""
    return {"model/0/w": np.full((3, 2), value, np.float32), "optimizer/0/i": np.asarray(value)}


def save(store: CheckpointStore, step: int, value: float | None = None, **extra: Any) -> Any:
    """Commit a checkpoint whose arrays hold `value` (or the step)."""
    value = step if value is None else value
    return store.save(
        step, arrays_of(value), state={"value": value}, metrics={"loss": value}, **extra
    )


def store_of(storage: Any, writers: Iterator[str] | None = None, **kwargs: Any) -> CheckpointStore:
    """A store whose writers are named in order."""
    names = writers or iter(f"w{i}" for i in range(100))
    return CheckpointStore(storage, new_writer=lambda: next(names), **kwargs)


def is_whole(checkpoint: Any) -> bool:
    """Whether arrays, state and metrics are of one and the same save."""
    value = checkpoint.manifest.state["value"]
    return bool(
        np.all(checkpoint.arrays["model/0/w"] == value)
        and checkpoint.arrays["optimizer/0/i"] == value
        and checkpoint.manifest.metrics == {"loss": value}
    )


@pytest.mark.parametrize(
    "array",
    [
        np.asarray(1.5, ml_dtypes.bfloat16),
        np.asarray([[1.5, -2]], ml_dtypes.bfloat16),
        np.asarray(7),
        np.bool_(1),
        np.zeros((0, 3), np.float32),
        np.arange(6, dtype=np.uint8).reshape(2, 3).T,
        np.asarray([np.nan, np.inf, -0.0]),
        np.float16([1, 2]),
    ],
    ids=lambda a: f"{a.dtype}{a.shape}",
)
def test_an_array_comes_back_to_the_bit(array: Any, tmp_path: Path) -> None:
    store = CheckpointStore(open_storage(str(tmp_path)))
    store.save(1, {"model/0/w": array}, state={}, metrics={})
    found = store.read("step-00000001-f0").arrays["model/0/w"]
    assert (found.dtype, found.shape) == (array.dtype, array.shape)
    assert found.tobytes() == array.tobytes()


def test_state_and_metrics_come_back() -> None:
    store = store_of(MemoryStorage())
    state = {"position": {"step": 3}, "list": [1, 2.5, None, True, "ü"], "inf": float("inf")}
    store.save(3, {}, state=state, metrics={"loss": float("nan"), "accuracy": 0.5})
    manifest = store.manifest("step-00000003-f0")
    assert manifest.state == state
    assert np.isnan(manifest.metrics["loss"])


def test_large_states_are_cut_into_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainer.checkpoint.parts.PART_BYTES", 100)
    arrays = {f"model/{i}/w": np.full(12, i, np.float32) for i in range(9)}
    storage = MemoryStorage()
    manifest = store_of(storage).save(1, arrays, state={}, metrics={})
    found = store_of(storage).read("step-00000001-f0").arrays
    assert len(manifest.parts) == 5
    assert all(np.array_equal(found[name], array) for name, array in arrays.items())


# ---- failures --------------------------------------------------------------------------------


def failing_points(prepare: Any) -> int:
    """Operations of one save after `prepare`."""
    storage = MemoryStorage()
    prepare(store_of(storage))
    counting = FailingStorage(storage, fail_at=10**9)
    save(store_of(counting, iter(["x1"])), 20, 20.5)
    return counting.count


@pytest.mark.parametrize("lost_reply", [False, True])
@pytest.mark.parametrize("taken", [False, True], ids=["free", "taken"])
def test_a_save_that_fails_anywhere_leaves_the_old_or_the_new(
    *, taken: bool, lost_reply: bool
) -> None:
    """`taken`: an earlier life committed the same step already."""

    def prepare(store: CheckpointStore) -> None:
        for step in (10, 20) if taken else (10,):
            save(store, step)

    points = failing_points(prepare)
    for fail_at in range(points):
        storage = MemoryStorage()
        prepare(store_of(storage))
        failing = FailingStorage(storage, fail_at, lost_reply=lost_reply)
        with pytest.raises(StorageError):
            save(store_of(failing, iter(["x1"])), 20, 20.5)
        found = newest(store_of(storage)).checkpoint
        assert is_whole(found)
        assert found.manifest.state["value"] in ((20, 20.5) if taken else (10, 20.5))
    assert points >= 4


@pytest.mark.parametrize("lost_reply", [False, True])
def test_a_save_that_failed_leaves_nothing_or_a_checkpoint(*, lost_reply: bool) -> None:
    points, left = failing_points(lambda _store: None), []
    for fail_at in range(points):
        storage = MemoryStorage()
        with pytest.raises(StorageError):
            save(store_of(FailingStorage(storage, fail_at, lost_reply=lost_reply, once=True)), 20)
        left.append(len(storage.objects))
    # The last operation makes the marker, beside a part and the manifest.
    assert left == [0] * (points - 1) + [3 if lost_reply else 0]


@pytest.mark.parametrize("lost_reply", [False, True])
def test_the_next_save_mends_what_a_failed_one_left(*, lost_reply: bool) -> None:
    for fail_at in range(failing_points(lambda _store: None)):
        storage = MemoryStorage()
        with pytest.raises(StorageError):
            save(store_of(FailingStorage(storage, fail_at, lost_reply=lost_reply)), 20)
        save(store_of(storage, iter(["x1"])), 20, 20.5)
        assert newest(store_of(storage)).checkpoint.manifest.state["value"] == 20.5


def test_a_lost_reply_to_the_marker_is_a_commit() -> None:
    class Deaf(MemoryStorage):
        """Creates, and answers as a store does to the retry of a request that it carried out."""

        def create(self, path: str, data: bytes) -> bool:
            super().create(path, data)
            return False

    storage = Deaf()
    save(store_of(storage), 5)
    assert is_whole(store_of(storage).read("step-00000005-f0"))


def test_a_part_that_reads_back_differently_is_not_committed() -> None:
    class Rotten(MemoryStorage):
        def write(self, path: str, data: bytes) -> Entry:
            return super().write(path, data[:-1] + b"?" if "part" in path else data)

    storage = Rotten()
    with pytest.raises(StorageError, match="reads back differently"):
        save(store_of(storage), 5)
    assert store_of(storage).all() == []


def test_two_writers_of_a_step_never_mix() -> None:
    """The second starts and ends while the first is between its parts and its marker."""
    storage = MemoryStorage()

    class Interrupted(MemoryStorage):
        def create(self, path: str, data: bytes) -> bool:
            save(store_of(storage, iter(["second"])), 5, 5.5)
            return storage.create(path, data)

    first = Interrupted(storage.objects, storage.times)
    save(store_of(first, iter(["first"])), 5, 5.25)
    assert is_whole(store_of(storage).read("step-00000005-f0"))


def test_a_later_save_of_the_same_step_wins_and_leaves_no_litter() -> None:
    """A run that stopped in a step's validation saves that step again after it."""
    storage = MemoryStorage()
    save(store_of(storage, iter(["before"])), 5, 5.25)
    save(store_of(storage, iter(["after"])), 5, 5.5)
    assert store_of(storage).read("step-00000005-f0").manifest.state["value"] == 5.5
    assert not [path for path in storage.objects if "before" in path]


def test_deleting_fails_towards_absence() -> None:
    for fail_at in range(4):
        storage = MemoryStorage()
        save(store_of(storage), 5)
        store = store_of(FailingStorage(storage, fail_at))
        with pytest.raises(StorageError):
            store.delete(5, 0)
        kept = newest(store_of(storage)).checkpoint
        assert kept is None or is_whole(kept)
        assert (kept is None) == (fail_at > 0)


# ---- damage ----------------------------------------------------------------------------------

FOLDER = "step-00000005-f0"
FILES = [f"{FOLDER}/COMMIT", f"{FOLDER}/w0/manifest.json", f"{FOLDER}/w0/part-00000.safetensors"]


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize(
    "damage",
    [lambda d: b"", lambda d: d[:-7], lambda d: d + b"x", lambda d: b"[" * 50_000, None],
    ids=["empty", "cut", "longer", "nested", "missing"],
)
def test_a_damaged_file_is_named(file: str, damage: Any) -> None:
    storage = MemoryStorage()
    save(store_of(storage), 5)
    if damage is None:
        storage.delete(file)
    else:
        storage.write(file, damage(storage.read(file)))
    with pytest.raises(DamagedError, match=FOLDER):
        store_of(storage).read(FOLDER)


@settings(max_examples=150, deadline=2000)
@given(st.sampled_from(FILES), st.integers(0, 10_000), st.integers(1, 255))
def test_any_changed_byte_is_found(file: str, at: int, change: int) -> None:
    storage = MemoryStorage()
    save(store_of(storage), 5)
    data = bytearray(storage.read(file))
    data[at % len(data)] ^= change
    storage.write(file, bytes(data))
    try:
        # A change that leaves the document's meaning as it was, as of white space, is none.
        assert is_whole(store_of(storage).read(FOLDER))
        assert file == FILES[0]
    except CheckpointError:
        pass


def recommit(storage: MemoryStorage, **changes: Any) -> None:
    """Another manifest, whose checksum the marker confirms: damage before it was written."""
    path = FILES[1]
    data = json.dumps(json.loads(storage.read(path)) | changes).encode()
    storage.write(path, data)
    marker = json.loads(storage.read(FILES[0])) | {"manifest_crc32c": crc32c(data)}
    storage.write(FILES[0], json.dumps(marker).encode())


@pytest.mark.parametrize(
    "changes",
    [
        {"step": 6}, {"fence": 1}, {"writer": "other"}, {"sha256": "0" * 64}, {"parts": []},
        {"arrays": []}, {"parts": [{"file": "../../x", "size": 1, "crc32c": ""}]},
    ],
    ids=str,
)  # fmt: skip
def test_a_manifest_of_something_else_is_damage(changes: dict[str, Any]) -> None:
    storage = MemoryStorage()
    save(store_of(storage), 5)
    recommit(storage, **changes)
    with pytest.raises(DamagedError):
        store_of(storage).read(FOLDER)


def test_a_huge_claim_takes_no_memory() -> None:
    class Counting(MemoryStorage):
        def read(self, path: str, **kwargs: Any) -> bytes:
            assert not path.endswith("safetensors")
            return super().read(path, **kwargs)

        def stat(self, path: str) -> Any:
            return MemoryStorage.stat(storage, path)

    storage = MemoryStorage()
    save(store_of(storage), 5)
    parts = json.loads(storage.read(FILES[1]))["parts"]
    arrays = [{"name": "model/0/w", "part": 0, "dtype": "float32", "shape": [1 << 29]}]
    recommit(storage, parts=[parts[0] | {"size": (1 << 32) - 1}], arrays=arrays)
    with pytest.raises(DamagedError, match="instead of 4294967295"):
        store_of(Counting(storage.objects, storage.times)).read(FOLDER)


@pytest.mark.parametrize("changed", ["names", "shape", "dtype"])
def test_a_part_of_other_arrays_is_damage(changed: str) -> None:
    storage = MemoryStorage()
    save(store_of(storage), 5)
    other = {
        "names": {"model/0/x": np.zeros((3, 2), np.float32)},
        "shape": {"model/0/w": np.zeros((2, 3), np.float32)},
        "dtype": {"model/0/w": np.zeros((3, 2), np.int32)},
    }[changed] | {"optimizer/0/i": np.asarray(5)}
    data = safetensors.numpy.save(other)
    storage.write(FILES[2], data)
    entry = {"file": "part-00000.safetensors", "size": len(data), "crc32c": crc32c(data)}
    recommit(storage, parts=[entry])
    with pytest.raises(DamagedError, match="part-00000"):
        store_of(storage).read(FOLDER)


@pytest.mark.parametrize(("found", "said"), [(2, "newer"), (0, "older")])
def test_another_format_is_not_called_damage(found: int, said: str) -> None:
    storage = MemoryStorage()
    save(store_of(storage), 5)
    recommit(storage, format=found)
    with pytest.raises(CheckpointError, match=f"use a {said} trainer") as caught:
        store_of(storage).read(FOLDER)
    assert not isinstance(caught.value, DamagedError)
    assert store_of(storage).metrics(FOLDER) == {}


def test_damage_on_the_way_is_read_again() -> None:
    class OnceWrong(MemoryStorage):
        wrong = 1

        def read(self, path: str, **kwargs: Any) -> bytes:
            data = super().read(path, **kwargs)
            if path == FILES[2] and OnceWrong.wrong and not kwargs:
                OnceWrong.wrong -= 1
                return b"?" * len(data)
            return data

        def stat(self, path: str) -> Any:
            return MemoryStorage.stat(storage, path)

    storage = MemoryStorage()
    save(store_of(storage), 5)
    found = store_of(OnceWrong(storage.objects, storage.times)).read(FOLDER)
    assert is_whole(found)
    assert OnceWrong.wrong == 0


# ---- listing and litter ----------------------------------------------------------------------


def test_checkpoints_are_ordered_by_fence_and_step() -> None:
    storage = MemoryStorage()
    for fence, step in [(1, 5), (0, 900), (1, 40), (0, 7)]:
        save(store_of(storage, fence=fence), step)
    storage.write("notes.txt", b"")
    storage.write("step-x/COMMIT", b"")
    found = [(f.fence, f.step) for f in store_of(storage).all()]
    assert found == [(0, 7), (0, 900), (1, 5), (1, 40)]


# age of the attempt in seconds, its fence, whether it is removed by fence 1
@pytest.mark.parametrize(
    ("age", "fence", "removed"),
    [(ORPHAN_SECONDS + 1, 1, True), (ORPHAN_SECONDS + 1, 0, True), (ORPHAN_SECONDS - 1, 1, False),
     (ORPHAN_SECONDS + 1, 2, False)],
)  # fmt: skip
def test_old_attempts_are_removed(age: float, fence: int, removed: bool) -> None:
    storage = MemoryStorage(now=1000.0)
    save(store_of(storage, fence=1), 4)
    storage.write(f"step-00000005-f{fence}/w9/part-00000.safetensors", b"half")
    gone = store_of(storage, fence=1, clock=lambda: 1000.0 + age).delete_orphans()
    assert bool(gone) == removed
    assert newest(store_of(storage)).checkpoint.manifest.step == 4


@pytest.mark.parametrize("newest_part", [0, 1])
def test_an_attempt_that_still_grows_is_left_alone(newest_part: int) -> None:
    storage = MemoryStorage()
    for part in (0, 1):
        storage.now = 1000.0 + ORPHAN_SECONDS * (part == newest_part)
        storage.write(f"step-00000005-f1/w9/part-{part:05d}.safetensors", b"half")
    now = 1000.0 + ORPHAN_SECONDS + 1
    assert store_of(storage, fence=1, clock=lambda: now).delete_orphans() == []
    assert len(storage.objects) == 2
