"""What a data set consists of: splits, their shards, and what each shard must weigh.

`manifest.json` stands beside the files that TensorFlow Datasets wrote and is written last: a
folder without it is not a data set yet. Beside every shard `NAME` stands `NAME.index` with the
byte offset of each record and the CRC-32C of all before it. Nothing here needs TensorFlow.
"""

import hashlib
import json
import re
from contextlib import suppress
from dataclasses import asdict
from difflib import get_close_matches
from typing import Annotated, Any

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, model_validator
from pydantic.dataclasses import dataclass

from trainer.data.tfrecord import OVERHEAD_BYTES
from trainer.errors import ConfigError, DataError, DataFormatError, ObjectNotFoundError
from trainer.storage.base import Storage

FORMAT = 2
MANIFEST_FILE = "manifest.json"
FEATURES_FILE = "features.json"
DATASET_INFO_FILE = "dataset_info.json"
STATISTICS_FILE = "statistics.json"
INDEX_SUFFIX = ".index"
LABELS_SUFFIX = ".labels.txt"

MAX_MANIFEST_BYTES = 64 << 20
MAX_SHARD_BYTES = 64 << 30

# Names become paths: a plain base name cannot leave the folder it is joined to.
BaseName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.+=-]*$", max_length=200)]
Crc32c = Annotated[str, Field(pattern=r"^[0-9a-f]{8}$")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
_STRICT = ConfigDict(extra="forbid", strict=True)


@dataclass(frozen=True, config=_STRICT)
class Shard:
    """One file of records: its size, and CRC-32Cs (8 hexadecimal digits) of it and its index."""

    file: BaseName
    num_records: Annotated[int, Field(ge=0)]
    size_bytes: Annotated[int, Field(ge=0, le=MAX_SHARD_BYTES)]
    crc32c: Crc32c
    index_crc32c: Crc32c

    @property
    def index_file(self) -> str:
        """Name of the file with the records' byte offsets."""
        return self.file + INDEX_SUFFIX

    @model_validator(mode="after")
    def _check_size(self) -> "Shard":
        if self.num_records * OVERHEAD_BYTES > self.size_bytes:
            raise ValueError(f"{self.num_records} records cannot fit in {self.size_bytes} bytes")
        return self


@dataclass(frozen=True, config=_STRICT)
class Split:
    """Records numbered 0 to num_records - 1, over the shards in their order."""

    name: BaseName
    shards: Annotated[tuple[Shard, ...], Field(max_length=100_000)]

    @property
    def num_records(self) -> int:
        """Records of all shards."""
        return sum(shard.num_records for shard in self.shards)


@dataclass(frozen=True, config=_STRICT)
class Manifest:
    """A data set as it was prepared."""

    name: BaseName
    version: BaseName
    splits: Annotated[dict[str, Split], Field(min_length=1, max_length=1000)]
    features_sha256: Sha256
    format: int = FORMAT
    # Of what `trainer.data.facts` reads, where a data set has it: models are made by it.
    statistics_sha256: Sha256 | None = None

    @property
    def content_hash(self) -> str:
        """sha256 (hexadecimal) over what identifies the records, wherever they are stored."""
        content = {
            "name": self.name,
            "version": self.version,
            "features_sha256": self.features_sha256,
            "splits": {
                name: [[s.num_records, s.size_bytes, s.crc32c] for s in split.shards]
                for name, split in self.splits.items()
            },
        }
        if self.statistics_sha256 is not None:
            content["statistics_sha256"] = self.statistics_sha256
        canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()

    def split(self, name: str) -> Split:
        """The split of that name; `ConfigError` when there is none."""
        if name in self.splits:
            return self.splits[name]
        nearest = get_close_matches(name, self.splits, n=1)
        hint = f"did you mean '{nearest[0]}'?" if nearest else f"it has {', '.join(self.splits)}"
        raise ConfigError(f"data set {self.name} has no split '{name}': {hint}")

    @model_validator(mode="after")
    def _check_names(self) -> "Manifest":
        files = [shard.file for split in self.splits.values() for shard in split.shards]
        if len(set(files)) != len(files):
            raise ValueError("a shard is listed twice")
        for name, split in self.splits.items():
            if name != split.name:
                raise ValueError(f"split '{name}' calls itself '{split.name}'")
        return self


@dataclass(frozen=True)
class SplitSlice:
    """Records [start, stop) of a split."""

    name: str
    start: int
    stop: int

    @property
    def num_records(self) -> int:
        """Records in the slice."""
        return self.stop - self.start


def read_manifest(storage: Storage) -> Manifest:
    """The manifest of the data set in `storage`.

    Raises:
        DataError: there is none, or it is damaged.
        DataFormatError: another version wrote it.
    """
    where = f"{MANIFEST_FILE} in {storage.url}"
    try:
        if storage.stat(MANIFEST_FILE).size > MAX_MANIFEST_BYTES:
            raise DataError(f"{where} is larger than {MAX_MANIFEST_BYTES} bytes: not a manifest")
        data = storage.read(MANIFEST_FILE)
    except ObjectNotFoundError:
        raise DataError(
            f"no {where}: the data set is absent or not completely prepared; run 'trainer data"
            f" prepare NAME --to {storage.url}' (again; of your own files: --from FILES), or"
            f" 'trainer data index {storage.url}' if TensorFlow Datasets wrote it there"
        ) from None
    try:
        fields = json.loads(data)
        found = fields.get("format") if isinstance(fields, dict) else None
        if isinstance(found, int) and found > FORMAT:
            raise DataFormatError(
                f"{where} has format {found}, this version reads format {FORMAT}:"
                " use a newer trainer, or prepare the data with this one in another folder"
            )
        if isinstance(found, int) and 0 < found < FORMAT:
            raise DataFormatError(
                f"{where} has format {found}, this version reads format {FORMAT}: run 'trainer data"
                f" index {storage.url}', which leaves the records, and runs on them, as they are"
            )
        manifest = TypeAdapter(Manifest).validate_json(data)
        if manifest.format != FORMAT:
            raise ValueError(f"format {manifest.format!r} was never written")
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"{where} is damaged ({_first_line(error)}): prepare the data set again"
        ) from None
    return manifest


def find_manifest(storage: Storage) -> Manifest | None:
    """The same, or None where a data set may be written: there is none yet, or a damaged one."""
    try:
        return read_manifest(storage)
    except DataFormatError:
        raise
    except DataError:
        return None


def class_names(storage: Storage) -> dict[str, tuple[str, ...]]:
    """Names of classes by feature, as TensorFlow Datasets keeps them beside the records."""
    tree = json.loads(storage.read(FEATURES_FILE))
    features = tree.get("featuresDict", {}).get("features", {})
    found = {}
    for name, feature in features.items():
        with suppress(ObjectNotFoundError):
            if "classLabel" in feature:
                found[name] = tuple(storage.read(f"{name}{LABELS_SUFFIX}").decode().splitlines())
    return found


def write_manifest(storage: Storage, manifest: Manifest) -> None:
    """Store the manifest: from then on the folder counts as a data set."""
    fields: dict[str, Any] = asdict(manifest)
    if manifest.statistics_sha256 is None:
        del fields["statistics_sha256"]
    storage.write(MANIFEST_FILE, (json.dumps(fields, indent=1, sort_keys=True) + "\n").encode())


def _first_line(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False)[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    return str(error).splitlines()[0]


_BOUNDARY = r"-?[0-9]{1,18}%?"
_SLICE = re.compile(rf"(?P<name>[\w.+=-]+)(?:\[(?P<start>{_BOUNDARY})?:(?P<stop>{_BOUNDARY})?\])?")


def parse_slice(text: str, manifest: Manifest) -> SplitSlice:
    """Resolve a slice against the number of records, with the rounding of TensorFlow Datasets.

    A boundary belongs to one side only, so "train[:90%]" and "train[90%:]" never share a record.

    Raises:
        ConfigError: bad syntax, no such split, boundaries outside of it, or an empty slice.
    """
    match = _match_slice(text)
    num_records = manifest.split(match["name"]).num_records
    start = _resolve(match["start"] or "0", num_records)
    stop = _resolve(match["stop"] or "100%", num_records)
    if not 0 <= start < stop <= num_records:
        raise ConfigError(
            f"slice '{text}' means records {start} to {stop} of {num_records}:"
            f" choose boundaries from 0 to {num_records} that leave at least one record"
        )
    return SplitSlice(match["name"], start, stop)


def _match_slice(text: str) -> re.Match[str]:
    match = _SLICE.fullmatch(text)
    if match is None:
        raise ConfigError(
            f"'{text}' is not a split or a slice of one:"
            " write 'train', 'train[:90%]' or 'train[1000:2000]'"
        )
    return match


def _resolve(boundary: str, num_records: int) -> int:
    if boundary.endswith("%"):
        percent = int(boundary[:-1])
        value = round(percent * num_records / 100.0)
    else:
        value = int(boundary)
    return value + num_records if boundary.startswith("-") else value


def blocks(
    manifest: Manifest, split: str | SplitSlice, block_records: int
) -> tuple[tuple[int, int], ...]:
    """Blocks of consecutive records as (start, count), in global record numbers of the split.

    Every shard is cut from its first record on, so no block crosses a shard and a shard's last
    block may be shorter. A slice trims the same blocks: it never shifts them.
    """
    if block_records < 1:
        raise ConfigError(f"blocks of {block_records} records: use at least 1")
    whole = manifest.split(split if isinstance(split, str) else split.name)
    low, high = (0, whole.num_records) if isinstance(split, str) else (split.start, split.stop)
    found = []
    base = 0
    for shard in whole.shards:
        end = base + shard.num_records
        for block in range(base, end, block_records):
            start, stop = max(block, low), min(block + block_records, end, high)
            if start < stop:
                found.append((start, stop - start))
        base = end
    return tuple(found)
