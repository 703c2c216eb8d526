"""`trainer data prepare --from`: a source of one's own becomes a data set as any other.

source -> survey -> records by hash into shards -> features, statistics -> as every preparation

The source is read twice and never held in memory. What was interrupted begins anew, and keeps the
shards that arrived whole; equal sources give equal data sets, byte for byte.
"""

import hashlib
import json
import re
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import tensorflow as tf
import tensorflow_datasets as tfds

from trainer.data.directory import OnProgress
from trainer.data.manifest import DATASET_INFO_FILE, STATISTICS_FILE, Manifest
from trainer.data.own.arrays import NpzFile
from trainer.data.own.columns import Column
from trainer.data.own.folder import LABEL, ImageFolder
from trainer.data.own.measures import Measures
from trainer.data.own.rows import Row, Source
from trainer.data.own.sorted_shards import SortedShards, num_shards
from trainer.data.own.survey import Plan, Wishes, survey
from trainer.data.own.tables import CsvFile, ParquetFile
from trainer.data.prepare import cache_folder, check_target, deliver, work_folder
from trainer.errors import ConfigError, DataError, ObjectNotFoundError
from trainer.storage import Storage, open_storage
from trainer.storage.local import LocalStorage

VERSION = "1.0.0"
_FILES: dict[str, Callable[[Storage, str, str], Source]] = {
    ".csv": CsvFile,
    ".parquet": ParquetFile,
    ".npz": NpzFile,
}
_CHUNK_ROWS = 256
# Decoding images, and waiting for a store's answers.
_THREADS = 8
_PROGRESS_SECONDS = 5.0


@dataclass
class BadRows:
    """Rows that cannot be used: each is told, and one more than `most` ends the preparation."""

    most: int
    say: OnProgress
    found: list[tuple[str, str]] = field(default_factory=list)
    num_lines: int = 0

    def add(self, row: Row, reason: str) -> None:
        """DataError when it is one too many."""
        self.num_lines += row.num_lines
        if self.num_lines > self.most:
            already = f" (bad so far: {self.num_lines})" if self.num_lines > 1 else ""
            raise DataError(
                f"{row.place}: {reason}{already}: mend it, or leave up to N such out with"
                " --on-bad skip --max-bad-records N"
            )
        self.found.append((row.place, reason))
        self.say(f"left out {row.place}: {reason}")


@dataclass(frozen=True)
class Prepared:
    """The data set, and the rows of the source that are not in it: (place, reason)."""

    manifest: Manifest
    bad: list[tuple[str, str]]


def prepare_own(
    url: str,
    to: str,
    wishes: Wishes,
    *,
    max_bad_records: int = 0,
    on_progress: OnProgress = lambda _: None,
    work: Path | None = None,
) -> Prepared:
    """Prepare the source at `url` as a data set at the URL `to`.

    Raises:
        ConfigError: no such source, column or split, or `to` holds another data set.
        DataError: more rows are bad than may be, or the source cannot be read.
    """
    source = open_source(url)
    if isinstance(source, ImageFolder):
        wishes = replace(wishes, label=wishes.label or LABEL)
        if f"{to.rstrip('/')}/".startswith(f"{url.rstrip('/')}/"):
            raise ConfigError(f"--to {to} is inside of --from: choose a folder beside it")
    if isinstance(source, NpzFile):
        source = replace(source, label=wishes.label)
    target = check_target(to, source.name)
    say = _Progress(on_progress)
    bad = BadRows(max_bad_records, on_progress)
    place = hashlib.sha256(f"{url} {to}".encode()).hexdigest()[:16]
    with work_folder(work or cache_folder(f"{source.name}-{place}")) as folder:
        plan = survey(source, wishes, lambda rows: say.now_and_then(f"looked at {rows:,} rows"))
        on_progress(f"found {_told(plan)}")
        _write(source, wishes, plan, bad, folder, say)
        manifest = deliver(open_storage(str(folder)), target, on_progress)
    return Prepared(manifest, bad.found)


def open_source(url: str) -> Source:
    """A .csv, .parquet or .npz file, or a folder of images; ConfigError when it is not there."""
    folder, slash, file = url.rstrip("/").rpartition("/")
    kind = _FILES.get(Path(file).suffix.lower())
    name = re.sub(r"[^a-z0-9]+", "_", Path(file).stem.lower()).strip("_") or "own"
    name = name if name[0].isalpha() else f"data_{name}"
    if kind is None and Path(url).is_file():
        raise ConfigError(f"{url} is no {', '.join(_FILES)} file, nor a folder of images")
    if kind is None:
        images = open_storage(url)
        if isinstance(images, LocalStorage):
            _check_folder(images.root)
        return ImageFolder(images, name)
    storage = open_storage(folder or slash or ".")
    try:
        storage.stat(file)
    except ObjectNotFoundError:
        raise ConfigError(f"no file {url}: check --from") from None
    return kind(storage, file, name)


def _check_folder(folder: Path) -> None:
    if not folder.is_dir():
        raise ConfigError(f"no folder {folder}: check --from")
    # A storage does not follow links to folders, and a class would be missing without a word.
    inside = [*folder.glob("[!.]*/"), *folder.glob("[!.]*/[!.]*/")]
    if links := [path for path in inside if path.is_symlink()]:
        raise ConfigError(f"{links[0]} is a link to a folder: put the folder itself there")


def _write(
    source: Source, wishes: Wishes, plan: Plan, bad: BadRows, folder: Path, say: "_Progress"
) -> None:
    """All files of the data set but indexes and manifest."""
    splits = {split: num_shards(size) for split, size in plan.sizes.items()}
    shards = SortedShards(folder, source.name, splits)
    measures = Measures(plan.columns)
    convert = partial(_convert, plan.columns)
    has_images = any(column.kind == "image" for column in plan.columns)
    convert_all = _in_threads if has_images else _one_by_one
    for number, (row, values) in enumerate(convert_all(convert, source.rows()), 1):
        say.now_and_then(f"read {number:,} of {plan.num_rows:,} rows")
        if isinstance(values, str):
            bad.add(row, values)
            continue
        split, key = wishes.place(row)
        if split not in splits:
            raise DataError(f"{source.name} changed while it was read: prepare it again")
        shards.add(split, key, _serialize(plan.columns, values))
        if split == "train":
            measures.add(values)
    say.now("sorting records into shards")
    lengths = shards.finish()
    for split, counts in lengths.items():
        if not sum(counts):
            way_out = f", or choose another --{split}, or 0" if split != "train" else ""
            raise DataError(
                f"no record is in split '{split}', of {plan.num_rows} rows: mend those that"
                f" were left out{way_out}"
            )
    tfds.features.FeaturesDict({c.name: _feature(c) for c in plan.columns}).save_config(str(folder))
    (folder / STATISTICS_FILE).write_bytes(measures.to_json("train"))
    (folder / DATASET_INFO_FILE).write_text(_info(source.name, lengths))


def _convert(columns: list[Column], row: Row) -> dict[str, Any] | str:
    """The row's values as they are kept, or why it is bad."""
    if row.reason is not None:
        return row.reason
    values = {}
    for column in columns:
        try:
            value = column.convert(row.values[column.name])
            values[column.name] = _image(column, value) if column.kind == "image" else value
        except ValueError as error:
            return f"{column.name}: {error}"
    return values


def _image(column: Column, value: Any) -> bytes:
    """An encoded image that TensorFlow decodes; ValueError if it does not."""
    if not callable(value):
        return bytes(tf.io.encode_png(value.reshape(column.shape)).numpy())
    data: bytes = value()
    try:
        tf.io.decode_image(data, channels=column.shape[-1] or 0, expand_animations=False)
    except tf.errors.InvalidArgumentError as error:
        raise ValueError(f"it cannot be decoded ({str(error.message).splitlines()[0]})") from None
    return data


def _serialize(columns: list[Column], values: dict[str, Any]) -> bytes:
    example = tf.train.Example()
    for column in columns:
        value, feature = values[column.name], example.features.feature[column.name]
        if column.kind in ("text", "image"):
            feature.bytes_list.value.append(value)
            continue
        numbers = value.ravel().tolist() if column.shape else [value]
        of_kind = feature.float_list if column.kind == "number" else feature.int64_list
        of_kind.value.extend(numbers)
    return bytes(example.SerializeToString(deterministic=True))


def _feature(column: Column) -> Any:
    features = tfds.features
    if column.kind == "image":
        return features.Image(shape=column.shape)
    if column.kind == "class":
        return features.ClassLabel(names=list(column.classes))
    if column.kind == "text":
        return features.Text()
    dtype = tf.float32 if column.kind == "number" else tf.int64
    return (
        features.Tensor(shape=column.shape, dtype=dtype) if column.shape else features.Scalar(dtype)
    )


def _info(name: str, lengths: dict[str, list[int]]) -> str:
    """dataset_info.json, by which TensorFlow Datasets reads it, too."""
    splits = [
        {
            "name": split, "shardLengths": [str(count) for count in counts],
            "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
        }
        for split, counts in lengths.items()
    ]  # fmt: skip
    tree = {"name": name, "version": VERSION, "fileFormat": "tfrecord", "splits": splits}
    return json.dumps(tree, indent=1, sort_keys=True) + "\n"


def _in_threads(function: Callable[[Row], Any], rows: Iterable[Row]) -> Iterator[tuple[Row, Any]]:
    """Each row with what `function` makes of it, in their order."""
    following = iter(rows)
    with ThreadPoolExecutor(_THREADS) as pool:
        while chunk := list(islice(following, _CHUNK_ROWS)):
            yield from zip(chunk, pool.map(function, chunk), strict=True)


def _one_by_one(function: Callable[[Row], Any], rows: Iterable[Row]) -> Iterator[tuple[Row, Any]]:
    """The same, where threads would only wait for each other."""
    return ((row, function(row)) for row in rows)


def _told(plan: Plan) -> str:
    kinds = (f"{column.name} ({_kind_told(column)})" for column in plan.columns)
    return f"{plan.num_rows:,} rows: {', '.join(kinds)}"


def _kind_told(column: Column) -> str:
    return f"{len(column.classes)} classes" if column.kind == "class" else column.kind


class _Progress:
    """Lines for a person, every few seconds."""

    def __init__(self, say: OnProgress) -> None:
        self.now = say
        self._last = time.monotonic()

    def now_and_then(self, line: str) -> None:
        """Say it if it is time."""
        if time.monotonic() - self._last > _PROGRESS_SECONDS:
            self._last = time.monotonic()
            self.now(line)
