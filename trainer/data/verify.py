"""Reading a whole data set and comparing it with its manifest. No TensorFlow."""

import hashlib
from dataclasses import dataclass

import numpy as np

from trainer.data.directory import OnProgress, read_directory
from trainer.data.manifest import (
    FEATURES_FILE,
    MANIFEST_FILE,
    STATISTICS_FILE,
    Manifest,
    Shard,
    read_manifest,
)
from trainer.data.pieces import Pieces
from trainer.data.reader import read_index
from trainer.data.tfrecord import Index, Scan, scan
from trainer.errors import DataError, ObjectNotFoundError
from trainer.storage.base import Storage


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: in which file, at which byte and record (None: all of it)."""

    file: str
    reason: str
    offset: int | None = None
    record: int | None = None

    def __str__(self) -> str:
        if self.offset is None:
            return f"{self.file}: {self.reason}"
        return f"{self.file}: record {self.record} at byte {self.offset}: {self.reason}"


def verify(storage: Storage, *, on_progress: OnProgress | None = None) -> list[Problem]:
    """Every problem of the data set in `storage`, in the order of its files; none if unharmed.

    Raises:
        DataError: there is no manifest, or none that can be read.
        StorageError: the storage refused a read.
    """
    manifest = read_manifest(storage)
    problems = [
        *_check_file(storage, FEATURES_FILE, manifest.features_sha256),
        *_check_file(storage, STATISTICS_FILE, manifest.statistics_sha256),
        *_check_directory(storage, manifest),
    ]
    for split in manifest.splits.values():
        if split.num_records == 0:
            problems.append(Problem(MANIFEST_FILE, f"split '{split.name}' has no records"))
        for shard in split.shards:
            # Once more: damage on the way is not damage of the file.
            found = _check_shard(storage, shard) and _check_shard(storage, shard)
            problems += found
            if on_progress is not None:
                on_progress(f"verified {shard.file}: {len(found)} problems")
    return problems


def check_complete(storage: Storage, manifest: Manifest) -> None:
    """DataError when a file of the data set is not there; nothing is read but a list."""
    found = {entry.path for entry in storage.list()}
    shards = [shard for split in manifest.splits.values() for shard in split.shards]
    described = [FEATURES_FILE, *[STATISTICS_FILE] * (manifest.statistics_sha256 is not None)]
    wanted = [*described, *(file for s in shards for file in (s.file, s.index_file))]
    if missing := [file for file in wanted if file not in found]:
        more = f" (and {len(missing) - 1} more files)" if len(missing) > 1 else ""
        raise DataError(
            f"{missing[0]} is missing in {storage.url}{more}: run 'trainer data prepare' again"
        )


def read_described(storage: Storage, file: str, sha256: str) -> bytes:
    """What describes the records in `file`, by which models are made.

    Raises:
        DataError: it is missing, or another than the manifest was written with: `content_hash`,
            by which a run knows its data, would tell nothing of it.
    """
    try:
        data = storage.read(file)
    except ObjectNotFoundError:
        raise DataError(f"{file} in {storage.url} is missing: prepare the data set again") from None
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise DataError(
            f"{file} in {storage.url} has sha256 {found}, expected {sha256}: it was changed or"
            " damaged; prepare the data set again, or take it as it is by 'trainer data index"
            f" {storage.url}', which makes it another data set to runs"
        )
    return data


def _check_file(storage: Storage, file: str, expected: str | None) -> list[Problem]:
    if expected is None:
        return []
    try:
        found = hashlib.sha256(storage.read(file)).hexdigest()
    except ObjectNotFoundError:
        return [Problem(file, "missing")]
    return [] if found == expected else [Problem(file, f"sha256 is {found}, expected {expected}")]


def _check_directory(storage: Storage, manifest: Manifest) -> list[Problem]:
    """dataset_info.json is what TensorFlow Datasets reads: it must say the same."""
    try:
        directory = read_directory(storage)
    except DataError as error:
        return [Problem("dataset_info.json", str(error))]
    expected = {
        name: tuple((shard.file, shard.num_records) for shard in split.shards)
        for name, split in manifest.splits.items()
    }
    names = sorted(directory.splits.keys() | expected.keys())
    return [
        Problem("dataset_info.json", f"split '{name}' has other shards or counts than the manifest")
        for name in names
        if directory.splits.get(name) != expected.get(name)
    ]


def _check_shard(storage: Storage, shard: Shard) -> list[Problem]:
    problems = []
    index = None
    try:
        index = read_index(Pieces(storage), shard)
    except DataError as error:
        problems.append(Problem(shard.index_file, str(error)))
    try:
        size = storage.stat(shard.file).size
    except ObjectNotFoundError:
        return [*problems, Problem(shard.file, "missing")]
    if size != shard.size_bytes:
        problems.append(Problem(shard.file, f"{size} bytes, expected {shard.size_bytes}"))
    found = scan(
        lambda start, length: storage.read(shard.file, start=start, length=length),
        size,
        known=None if index is None else index.offsets,
    )
    return [*problems, *_compare(shard, index, found)]


def _compare(shard: Shard, index: Index | None, found: Scan) -> list[Problem]:
    # Records keep their numbers past a damaged one as long as the index tells where they start.
    starts = (found.index if index is None else index).offsets[:-1]
    problems = [
        Problem(shard.file, reason, offset, int(np.searchsorted(starts, offset)))
        for offset, reason in found.bad
    ]
    num_records = len(found.index.offsets) - 1
    if found.checksum != shard.crc32c:
        problems.append(Problem(shard.file, f"crc32c is {found.checksum}, expected {shard.crc32c}"))
    if num_records != shard.num_records:
        problems.append(Problem(shard.file, f"{num_records} records, expected {shard.num_records}"))
    elif index is not None and not found.bad:
        if not np.array_equal(index.offsets, found.index.offsets):
            problems.append(Problem(shard.index_file, "offsets are not where the records start"))
        elif not np.array_equal(index.crcs, found.index.crcs):
            problems.append(Problem(shard.index_file, "its CRCs are not those of the records"))
    return problems
