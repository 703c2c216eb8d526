"""Manifests are strict, slices round as TensorFlow Datasets does, blocks stay inside shards."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.small_data import write_dataset
from trainer.data.manifest import (
    MANIFEST_FILE,
    Manifest,
    Shard,
    Split,
    SplitSlice,
    blocks,
    parse_slice,
    read_manifest,
    write_manifest,
)
from trainer.errors import ConfigError, DataError
from trainer.storage import open_storage


def shard(file: str = "a-train.tfrecord-00000-of-00001", num_records: int = 10) -> Shard:
    return Shard(file, num_records, 100_000, "0" * 8, "1" * 8)


def manifest_of(*counts: int) -> Manifest:
    shards = tuple(shard(f"shard-{n}", count) for n, count in enumerate(counts))
    return Manifest("a", "1.0.0", {"train": Split("train", shards)}, "f" * 64)


def test_reads_what_it_wrote(tmp_path: Path) -> None:
    storage, written = open_storage(str(tmp_path)), manifest_of(10, 3)
    write_manifest(storage, written)
    assert read_manifest(storage) == written


def test_missing_manifest_names_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no manifest\.json in .*trainer data prepare"):
        read_manifest(open_storage(str(tmp_path)))


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (["format"], 3, "format 3.*newer trainer"),
        (["format"], 1, "format 1.*run 'trainer data index .*'"),
        (["format"], 0, "format 0"),
        (["surprise"], 1, "surprise"),
        (["splits", "train", "shards", 0, "file"], "../../etc/passwd", r"shards\.0\.file"),
        (["splits", "train", "shards", 0, "file"], "/etc/passwd", r"shards\.0\.file"),
        (["splits", "train", "shards", 0, "file"], "a\n", r"shards\.0\.file"),
        (["splits", "train", "shards", 0, "file"], ".hidden", r"shards\.0\.file"),
        (["splits", "train", "shards", 0, "num_records"], -1, "num_records"),
        (["splits", "train", "shards", 0, "num_records"], "10", "num_records"),
        (["splits", "train", "shards", 0, "num_records"], 10**9, "cannot fit"),
        (["splits", "train", "shards", 0, "size_bytes"], 2**60, "size_bytes"),
        (["splits", "train", "shards", 0, "crc32c"], "xyz", "crc32c"),
        (["splits", "train", "name"], "test", "calls itself 'test'"),
        (["splits"], {}, "splits"),
    ],
)
def test_refuses_what_no_trainer_wrote(
    tmp_path: Path, path: list[Any], value: Any, message: str
) -> None:
    storage = open_storage(str(tmp_path))
    write_manifest(storage, manifest_of(10))
    fields = target = json.loads((tmp_path / MANIFEST_FILE).read_text())
    for key in path[:-1]:
        target = target[key]
    target[path[-1]] = value
    (tmp_path / MANIFEST_FILE).write_text(json.dumps(fields))
    with pytest.raises(DataError, match=message):
        read_manifest(storage)


@pytest.mark.parametrize("text", ["", "[]", "{", "null", "[" * 100_000, '{"format": 1e400}'])
def test_refuses_damaged_json(tmp_path: Path, text: str) -> None:
    (tmp_path / MANIFEST_FILE).write_text(text)
    with pytest.raises(DataError, match="damaged"):
        read_manifest(open_storage(str(tmp_path)))


def test_refuses_a_shard_listed_twice(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="listed twice"):
        Manifest("a", "1.0.0", {"train": Split("train", (shard(), shard()))}, "f" * 64)


def test_content_hash_is_of_the_content_alone(tmp_path: Path) -> None:
    here = write_dataset(tmp_path / "here", {"train": [3, 2]})
    there = write_dataset(tmp_path / "there", {"train": [3, 2]})
    assert here.content_hash == there.content_hash
    assert here.content_hash != write_dataset(tmp_path, {"train": [3, 3]}).content_hash
    assert here.content_hash != replace(here, features_sha256="0" * 64).content_hash


@pytest.mark.parametrize(
    # slice, records in the split -> first, end
    ("text", "num_records", "start", "stop"),
    [
        ("train", 10, 0, 10),
        ("train[:]", 10, 0, 10),
        ("train[:90%]", 10, 0, 9),
        ("train[90%:]", 10, 9, 10),
        ("train[3:7]", 10, 3, 7),
        ("train[-3:]", 10, 7, 10),
        ("train[:-3]", 10, 0, 7),
        ("train[-10%:]", 1005, 905, 1005),
        ("train[33%:67%]", 1000, 330, 670),
    ],
)
def test_slice(text: str, num_records: int, start: int, stop: int) -> None:
    found = parse_slice(text, manifest_of(num_records))
    assert found == SplitSlice("train", start, stop)
    assert found.num_records == stop - start


def test_slices_that_share_a_boundary_share_no_record() -> None:
    for num_records in range(1, 120):
        manifest = manifest_of(num_records)
        for percent in range(1, 100):
            try:
                low = parse_slice(f"train[:{percent}%]", manifest)
                high = parse_slice(f"train[{percent}%:]", manifest)
            except ConfigError:
                continue  # one of them is empty
            assert low.stop == high.start


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train[:90%", "not a split or a slice"),
        ("train[a:b]", "not a split or a slice"),
        ("train[::2]", "not a split or a slice"),
        ("", "not a split or a slice"),
        ("trian", "did you mean 'train'"),
        ("train[5:5]", "at least one record"),
        ("train[:11]", "boundaries from 0 to 10"),
        ("train[-11:]", "boundaries from 0 to 10"),
        ("train[:1%]", "at least one record"),
    ],
)
def test_refused_slice(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_slice(text, manifest_of(10))


@pytest.mark.parametrize(
    # records of each shard, the part asked for -> blocks of 4 as (start, count)
    ("counts", "part", "expected"),
    [
        ([8], "train", ((0, 4), (4, 4))),
        ([5, 0, 6], "train", ((0, 4), (4, 1), (5, 4), (9, 2))),
        ([5, 6], SplitSlice("train", 2, 10), ((2, 2), (4, 1), (5, 4), (9, 1))),
        ([5, 6], SplitSlice("train", 6, 7), ((6, 1),)),
        ([1, 1, 1], "train", ((0, 1), (1, 1), (2, 1))),
    ],
)
def test_blocks(
    counts: list[int], part: str | SplitSlice, expected: tuple[tuple[int, int], ...]
) -> None:
    assert blocks(manifest_of(*counts), part, 4) == expected
