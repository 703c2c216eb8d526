"""Records by number: any order, any block size, many threads, and damage by policy (F36, F37)."""

import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.small_data import flip_bit, payload, shard_name, write_dataset
from trainer.data.manifest import Manifest, Split, SplitSlice
from trainer.data.pieces import Pieces
from trainer.data.reader import RecordReader, read_index
from trainer.errors import ConfigError, DataError
from trainer.storage import LocalStorage

COUNTS = [7, 0, 5, 11]
NUM_RECORDS = 23


class CountingStorage(LocalStorage):
    """A local folder that counts the reads of shards and may damage some of them on the way."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.reads: list[tuple[str, int]] = []
        self.damage_next = 0

    def read(self, path: str, *, start: int = 0, length: int | None = None) -> bytes:
        data = super().read(path, start=start, length=length)
        if not path.endswith((".index", ".json")):
            self.reads.append((path, start))
            if self.damage_next:
                self.damage_next -= 1
                return data[:20] + bytes([data[20] ^ 1]) + data[21:]
        return data


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    return write_dataset(tmp_path, {"train": COUNTS, "test": [2]})


@pytest.fixture
def storage(tmp_path: Path) -> CountingStorage:
    return CountingStorage(tmp_path)


def ids(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.int64)


def offset_of(storage: LocalStorage, manifest: Manifest, shard: int, record: int) -> int:
    return int(read_index(Pieces(storage), manifest.splits["train"].shards[shard]).offsets[record])


@pytest.mark.parametrize("block_records", [1, 2, 4, 7, 500])
def test_any_order_and_block_size(
    storage: CountingStorage, manifest: Manifest, block_records: int
) -> None:
    wanted = np.random.default_rng(0).permutation(NUM_RECORDS).repeat(2)
    reader = RecordReader(
        Pieces(storage), manifest, "train", block_records=block_records, cache_blocks=2
    )
    assert reader.read(wanted).tolist() == [payload(i) for i in wanted.tolist()]
    assert reader.read(ids()).tolist() == []


def test_a_block_is_one_ranged_read_while_it_is_cached(
    storage: CountingStorage, manifest: Manifest
) -> None:
    reader = RecordReader(Pieces(storage), manifest, "train", block_records=4, cache_blocks=2)
    for _ in range(3):
        reader.read(ids(0, 1, 2, 3, 4))
    assert len(storage.reads) == 2
    reader.read(ids(8))
    reader.read(ids(0))
    assert len(storage.reads) == 4


def test_threads_that_want_the_same_block_wait_for_one_read(
    storage: CountingStorage, manifest: Manifest
) -> None:
    reader = RecordReader(Pieces(storage), manifest, "train")
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: reader.read(np.arange(NUM_RECORDS)), range(40)))
    assert all(payloads.tolist() == [payload(i) for i in range(NUM_RECORDS)] for payloads in found)
    assert len(storage.reads) == len([count for count in COUNTS if count])


@pytest.mark.parametrize("number", [-1, NUM_RECORDS])
def test_a_number_outside_of_the_split(
    storage: CountingStorage, manifest: Manifest, number: int
) -> None:
    with pytest.raises(IndexError, match="23"):
        RecordReader(Pieces(storage), manifest, "train").read(ids(number))


@pytest.mark.parametrize(
    # byte within the record, reason
    ("at", "reason"),
    [
        (0, "length"),
        (9, "length"),
        (14, "payload"),
        (-1, "payload"),
    ],
)
def test_f36_bad_record_fails_with_file_and_offset(
    storage: CountingStorage, manifest: Manifest, at: int, reason: str
) -> None:
    begin, end = (offset_of(storage, manifest, 2, record) for record in (3, 4))
    flip_bit(storage.root / shard_name("train", 2, 4), begin + at if at >= 0 else end + at)
    reader = RecordReader(Pieces(storage), manifest, "train")
    expected = rf"record 3 of small-train.tfrecord-00002-of-00004 .* at byte {begin}: .*{reason}"
    with pytest.raises(DataError, match=expected):
        reader.read(ids(9, 10, 11))
    # Its neighbours are not touched by it, whatever it says about its length.
    assert reader.read(ids(9, 11)).tolist() == [payload(9), payload(11)]


def test_f36_skips_at_most_so_many_and_tells_each_once(
    storage: CountingStorage, manifest: Manifest
) -> None:
    file = storage.root / shard_name("train", 2, 4)
    offsets = [offset_of(storage, manifest, 2, record) for record in (1, 2, 4)]
    for offset in offsets:
        flip_bit(file, offset + 14)
    told: list[tuple[str, int, str]] = []
    reader = RecordReader(
        Pieces(storage), manifest, "train", block_records=2, max_bad_records=2,
        on_bad=lambda *what: told.append(what),
    )  # fmt: skip
    for _ in range(2):
        # The next readable one of the shard stands in, across blocks and past other bad ones.
        assert reader.read(ids(7, 8, 9)).tolist() == [payload(7), payload(10), payload(10)]
    assert [(name, offset) for name, offset, _ in told] == [(file.name, o) for o in offsets[:2]]
    with pytest.raises(DataError, match=r"record 4 of .*max_bad_records is 2"):
        reader.read(ids(11))


def test_f36_replacements_stay_in_the_shard_and_the_slice(
    storage: CountingStorage, manifest: Manifest
) -> None:
    flip_bit(storage.root / shard_name("train", 3, 4), offset_of(storage, manifest, 3, 4) + 14)
    part = SplitSlice("train", 14, 17)
    reader = RecordReader(Pieces(storage), manifest, part, max_bad_records=1)
    assert reader.read(ids(16)).tolist() == [payload(14)]
    with pytest.raises(IndexError):
        reader.read(ids(17))


def test_f36_a_shard_without_a_readable_record_is_an_error(
    storage: CountingStorage, manifest: Manifest
) -> None:
    for record in range(5):
        file = storage.root / shard_name("train", 2, 4)
        flip_bit(file, offset_of(storage, manifest, 2, record) + 14)
    reader = RecordReader(Pieces(storage), manifest, "train", max_bad_records=5)
    with pytest.raises(DataError, match="no other record"):
        reader.read(ids(7))


def test_f36_a_truncated_shard(storage: CountingStorage, manifest: Manifest) -> None:
    file = storage.root / shard_name("train", 2, 4)
    file.write_bytes(file.read_bytes()[:-5])
    reader = RecordReader(Pieces(storage), manifest, "train")
    assert reader.read(ids(10)).tolist() == [payload(10)]
    with pytest.raises(DataError, match=r"record 4 of .* the file ends inside it"):
        reader.read(ids(11))


def test_f30_damage_on_the_way_is_read_again(storage: CountingStorage, manifest: Manifest) -> None:
    storage.damage_next = 1
    reader = RecordReader(Pieces(storage), manifest, "train")
    assert reader.read(np.arange(7)).tolist() == [payload(i) for i in range(7)]
    assert len(storage.reads) == 2
    assert storage.damage_next == 0


def test_f37_a_missing_shard_is_named(storage: CountingStorage, manifest: Manifest) -> None:
    (storage.root / shard_name("train", 2, 4)).unlink()
    with pytest.raises(DataError, match=r"small-train\.tfrecord-00002-of-00004 is missing"):
        RecordReader(Pieces(storage), manifest, "train").read(ids(7))


def test_f37_an_empty_split_is_refused(storage: CountingStorage, manifest: Manifest) -> None:
    empty = replace(manifest, splits={"train": Split("train", ())})
    with pytest.raises(DataError, match="split 'train' of data set small has no records"):
        RecordReader(Pieces(storage), empty, "train")


def test_an_unknown_split_is_named(storage: CountingStorage, manifest: Manifest) -> None:
    with pytest.raises(ConfigError, match="did you mean 'train'"):
        RecordReader(Pieces(storage), manifest, "trian")


def test_an_index_of_other_data_is_refused(
    storage: CountingStorage, manifest: Manifest, tmp_path: Path
) -> None:
    name = shard_name("train", 2, 4) + ".index"
    write_dataset(tmp_path / "other", {"train": [7, 0, 6, 10]})
    shutil.copy(tmp_path / "other" / name, tmp_path / name)
    with pytest.raises(DataError, match=f"{name} .* another version"):
        RecordReader(Pieces(storage), manifest, "train").read(ids(7))


def test_a_failed_read_is_not_remembered(storage: CountingStorage, manifest: Manifest) -> None:
    file = storage.root / shard_name("train", 0, 4)
    away = file.rename(storage.root / "away")
    reader = RecordReader(Pieces(storage), manifest, "train")
    with pytest.raises(DataError, match="missing"):
        reader.read(ids(0))
    away.rename(file)
    assert reader.read(ids(0)).tolist() == [payload(0)]


def test_locate(storage: CountingStorage, manifest: Manifest) -> None:
    reader = RecordReader(Pieces(storage), manifest, "train")
    assert reader.locate(6) == (shard_name("train", 0, 4), 6)
    assert reader.locate(7) == (shard_name("train", 2, 4), 0)
