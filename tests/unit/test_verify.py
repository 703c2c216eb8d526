"""Verification names every problem, with file and offset, not only the first."""

from pathlib import Path
from typing import Any

import pytest

from tests.small_data import flip_bit, shard_name, spoil_crcs, write_dataset
from trainer.data.builtin import resolve_data_url
from trainer.data.manifest import Manifest
from trainer.data.pieces import Pieces
from trainer.data.reader import read_index
from trainer.data.verify import Problem, verify
from trainer.errors import DataError
from trainer.storage import Storage, open_storage

FIRST = shard_name("train", 0, 2)
SECOND = shard_name("train", 1, 2)


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    write_dataset(tmp_path, {"train": [4, 3]})
    return open_storage(str(tmp_path))


def offsets(storage: Storage, manifest: Manifest, shard: int) -> list[int]:
    return read_index(Pieces(storage), manifest.splits["train"].shards[shard]).offsets.tolist()


def found(storage: Storage) -> list[tuple[str, int | None, int | None]]:
    return [(problem.file, problem.record, problem.offset) for problem in verify(storage)]


def test_an_unharmed_data_set(storage: Storage) -> None:
    said: list[str] = []
    assert verify(storage, on_progress=said.append) == []
    assert said == [f"verified {FIRST}: 0 problems", f"verified {SECOND}: 0 problems"]


def test_f30_damage_on_the_way_is_read_again(storage: Storage) -> None:
    whole, num_damaged = storage.read, 0

    def read(path: str, **part: Any) -> bytes:
        nonlocal num_damaged
        data = whole(path, **part)
        if path != FIRST or num_damaged:
            return data
        num_damaged += 1
        return bytes([data[0] ^ 1]) + data[1:]

    storage.read = read  # type: ignore[method-assign]
    assert verify(storage) == []
    assert num_damaged == 1


def test_the_data_set_of_the_package() -> None:
    assert verify(open_storage(resolve_data_url("builtin:fashion_mnist"))) == []


def test_f36_every_bad_record_is_named(tmp_path: Path) -> None:
    manifest = write_dataset(tmp_path, {"train": [4, 3]})
    storage = open_storage(str(tmp_path))
    first, second = offsets(storage, manifest, 0), offsets(storage, manifest, 1)
    flip_bit(tmp_path / FIRST, first[1])  # a length: the records after it are found all the same
    flip_bit(tmp_path / FIRST, first[3] + 14)
    flip_bit(tmp_path / SECOND, second[0] + 14)
    assert found(storage) == [
        (FIRST, 1, first[1]),
        (FIRST, 3, first[3]),
        (FIRST, None, None),
        (SECOND, 0, second[0]),
        (SECOND, None, None),
    ]
    problem = verify(storage)[0]
    assert str(problem).startswith(f"{FIRST}: record 1 at byte {first[1]}: the CRC of its length")


@pytest.mark.parametrize("kept", [0, 1, 30])
def test_a_truncated_shard(storage: Storage, tmp_path: Path, kept: int) -> None:
    (tmp_path / FIRST).write_bytes((tmp_path / FIRST).read_bytes()[:kept])
    problems = verify(storage)
    assert {problem.file for problem in problems} == {FIRST}
    assert any(f"{kept} bytes, expected" in problem.reason for problem in problems)


@pytest.mark.parametrize(
    ("file", "reason"),
    [
        (FIRST, "missing"),
        (FIRST + ".index", "is missing"),
        ("features.json", "missing"),
        ("dataset_info.json", "no dataset_info.json"),
    ],
)
def test_a_missing_file(storage: Storage, tmp_path: Path, file: str, reason: str) -> None:
    (tmp_path / file).unlink()
    problems = verify(storage)
    assert [problem.file for problem in problems] == [file]
    assert reason in problems[0].reason


def test_what_is_absent_is_not_called_damaged(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no manifest\.json in .*absent"):
        verify(open_storage(str(tmp_path / "nope")))


@pytest.mark.parametrize("file", ["features.json", FIRST + ".index"])
def test_a_changed_file(storage: Storage, tmp_path: Path, file: str) -> None:
    flip_bit(tmp_path / file, 9)
    assert [problem.file for problem in verify(storage)] == [file]


def test_crcs_of_other_records_in_an_index(storage: Storage, tmp_path: Path) -> None:
    spoil_crcs(tmp_path, FIRST)
    problem = Problem(FIRST + ".index", "its CRCs are not those of the records")
    assert verify(storage) == [problem]


def test_another_shard_under_the_same_name(storage: Storage, tmp_path: Path) -> None:
    (tmp_path / FIRST).write_bytes((tmp_path / SECOND).read_bytes())
    reasons = [problem.reason for problem in verify(storage)]
    assert any("3 records, expected 4" in reason for reason in reasons)
    assert any("crc32c" in reason for reason in reasons)


def test_counts_that_dataset_info_contradicts(storage: Storage, tmp_path: Path) -> None:
    info = tmp_path / "dataset_info.json"
    info.write_text(info.read_text().replace('"4"', '"5"'))
    assert verify(storage) == [
        Problem("dataset_info.json", "split 'train' has other shards or counts than the manifest")
    ]
