"""A data set in a store: read ahead, each block once, only what is needed, and kept on disk."""

import threading
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tests.small_data import payload, write_dataset
from tests.small_training import as_pair, dataset_of
from trainer.config import DataConfig
from trainer.data.dataset import Dataset
from trainer.data.disk_cache import DiskCache
from trainer.data.manifest import blocks, parse_slice, read_manifest
from trainer.data.pieces import Pieces
from trainer.data.pipeline import Pipeline, Place
from trainer.data.reader import RecordReader
from trainer.data.spec import DataSpec
from trainer.errors import DataError, StorageError
from trainer.storage import LocalStorage

STEPS = {"batch_size": 16, "streams": 4, "block_records": 5, "shuffle_blocks": 2}


class Store:
    """A folder as a store would show it; remembers its reads, which may fail or be damaged."""

    def __init__(self, root: str | Path) -> None:
        self._inner = LocalStorage(Path(root))
        self.url = "gs://bucket"
        self.reads: list[tuple[str, int]] = []
        self.faults: list[Any] = []
        self._lock = threading.Lock()

    def stat(self, path: str) -> Any:
        return self._inner.stat(path)

    def read(self, path: str, *, start: int = 0, length: int | None = None) -> bytes:
        data = self._inner.read(path, start=start, length=length)
        with self._lock:
            if not path.endswith(".json"):
                self.reads.append((path, start))
                if self.faults:
                    return self.faults.pop(0)(data)
        return data

    def records(self) -> Counter[tuple[str, int]]:
        """How often each place of a shard was read."""
        return Counter(read for read in self.reads if not read[0].endswith(".index"))


def damage(data: bytes) -> bytes:
    return data[:20] + bytes([data[20] ^ 1]) + data[21:]


def fail(data: bytes) -> bytes:
    raise StorageError("refused")


def dataset_in(store: Store, **config: Any) -> Dataset:
    """The same data set as `dataset_of` opens, from the store."""
    settings = DataConfig(url="gs://bucket", **({"disk_cache_mb": 0} | STEPS | config))
    return Dataset(store, read_manifest(store), settings, DataSpec(as_pair), 3, 2)


def one_pass(pipeline: Pipeline, start: int = 0) -> list[Any]:
    return [tensor.numpy() for e in pipeline.dataset(start, num_passes=1) for tensor in flat(e)]


def flat(element: Any) -> list[Any]:
    return tf.nest.flatten(element)


def places_of(store: Store, ids: np.ndarray) -> set[tuple[str, int]]:
    """Where the blocks of these records begin."""
    manifest = read_manifest(store)
    reader = RecordReader(Pieces(store), manifest, "train")
    found = set()
    for start, count in blocks(manifest, "train", 5):
        if ((ids >= start) & (ids < start + count)).any():
            file, record = reader.locate(start)
            offset = store.read(f"{file}.index", start=8 * record, length=8)
            found.add((file, int.from_bytes(offset, "little")))
    return found


@pytest.mark.parametrize("cache", ["stream", "memory"])
def test_batches_are_those_of_a_local_folder(vectors: str, cache: str) -> None:
    store = Store(vectors)
    found = one_pass(dataset_in(store, cache=cache).training(Place()))
    wanted = one_pass(dataset_of(vectors, cache=cache).training(Place()))
    assert len(found) == len(wanted) > 0
    assert all(map(np.array_equal, found, wanted))
    # Blocks and indexes: of those, an epoch needs each once.
    assert set(store.records()) == places_of(store, np.arange(53))


@pytest.mark.parametrize("place", [Place(), Place(1, 2), Place(3, 4)])
@pytest.mark.parametrize("start", [0, 2, 3])
def test_only_what_a_worker_needs_is_read_and_once(vectors: str, start: int, place: Place) -> None:
    store = Store(vectors)
    pipeline = dataset_in(store, cache="stream").training(place)
    one_pass(pipeline, start)
    order, streams = pipeline.order, range(place.worker, 4, place.num_workers)
    needed = [order.stream_ids(0, stream, 4 * start, 10**6) for stream in streams]
    found = store.records()
    assert set(found) == places_of(store, np.concatenate(needed))
    assert set(found.values()) == {1}


def test_a_pass_of_evaluation_reads_each_block_once(vectors: str) -> None:
    store = Store(vectors)
    one_pass(dataset_in(store, cache="stream").evaluation("train[7:40]", Place()))
    part = parse_slice("train[7:40]", read_manifest(store))
    assert store.records() == dict.fromkeys(places_of(store, np.arange(part.start, part.stop)), 1)


def test_reading_goes_ahead_of_what_is_asked_for(vectors: str) -> None:
    store = Store(vectors)
    dataset = dataset_in(store, cache="stream", eval_batch_size=1)
    elements = iter(dataset.evaluation("train", Place()).dataset())
    next(elements)
    # A later plan may start further ones meanwhile.
    while loaders := [each for each in threading.enumerate() if each.name == "block-loader"]:
        with suppress(RuntimeError):  # one that is just being started cannot be joined yet
            loaders[0].join()
    # Steps are planned in chunks of eight, and at most two more chunks than was asked for.
    assert set(store.records()) >= places_of(store, np.arange(5 * 8))


@pytest.mark.parametrize("cache", ["stream", "memory"])
def test_another_start_reads_nothing_again(vectors: str, tmp_path: Path, cache: str) -> None:
    config = {"cache": cache, "disk_cache_mb": 1, "disk_cache_dir": str(tmp_path)}
    first, second = Store(vectors), Store(vectors)
    wanted = one_pass(dataset_in(first, **config).training(Place()))
    found = one_pass(dataset_in(second, **config).training(Place()))
    assert all(map(np.array_equal, found, wanted))
    assert (bool(first.reads), second.reads) == (True, [])


@pytest.fixture
def small(tmp_path: Path) -> Store:
    write_dataset(tmp_path / "data", {"train": [7]})
    return Store(tmp_path / "data")


def reader_of(store: Store, folder: Path) -> RecordReader:
    folder.mkdir(exist_ok=True)
    disk = DiskCache(folder, 10**6, on_failure=lambda error: pytest.fail(str(error)))
    manifest = read_manifest(store)
    return RecordReader(Pieces(store, manifest.content_hash, disk), manifest, "train")


PAYLOADS = [payload(number) for number in range(7)]


def test_f30_a_damaged_piece_on_disk_is_read_from_the_store(small: Store, tmp_path: Path) -> None:
    reader_of(small, tmp_path / "disk").read(np.arange(7))
    for file in (tmp_path / "disk").iterdir():
        file.write_bytes(damage(file.read_bytes()))
    small.reads.clear()
    assert reader_of(small, tmp_path / "disk").read(np.arange(7)).tolist() == PAYLOADS
    assert len(small.reads) == 2
    assert reader_of(small, tmp_path / "disk").read(np.arange(7)).tolist() == PAYLOADS
    assert len(small.reads) == 2


def test_f30_what_was_damaged_on_the_way_is_not_kept(small: Store, tmp_path: Path) -> None:
    small.faults = [damage, bytes, damage]  # the index twice, the block twice
    assert reader_of(small, tmp_path / "disk").read(np.arange(7)).tolist() == PAYLOADS
    assert len(small.reads) == 4
    assert reader_of(small, tmp_path / "disk").read(np.arange(7)).tolist() == PAYLOADS
    assert len(small.reads) == 4


def test_what_stays_damaged_is_not_kept(small: Store, tmp_path: Path) -> None:
    small.faults = [bytes, damage, damage]  # the index, the block twice
    with pytest.raises(DataError, match="record 0 of"):
        reader_of(small, tmp_path / "disk").read(np.arange(7))
    assert len(list((tmp_path / "disk").iterdir())) == 1


def test_other_data_of_the_same_name_is_not_taken_from_disk(small: Store, tmp_path: Path) -> None:
    reader_of(small, tmp_path / "disk").read(np.arange(7))
    write_dataset(tmp_path / "other", {"train": [6]})
    other = reader_of(Store(tmp_path / "other"), tmp_path / "disk")
    assert other.read(np.arange(6)).tolist() == PAYLOADS[:6]


def test_an_error_while_reading_ahead_is_raised_where_the_records_are_read(vectors: str) -> None:
    store = Store(vectors)
    pipeline = dataset_in(store, cache="stream").training(Place())
    store.faults = [fail] * 1000
    with pytest.raises(tf.errors.OpError) as caught:
        one_pass(pipeline)
    assert isinstance(pipeline.explain(caught.value), StorageError)
    store.faults.clear()
    assert one_pass(pipeline)
