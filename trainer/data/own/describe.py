"""What existing TFRecord files hold, found out from their records, for `trainer data index`.

Files of `tf.train.Example`s that nobody described get a features.json and a dataset_info.json, and
are then indexed as those of TensorFlow Datasets are, where they lie.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import tensorflow as tf
import tensorflow_datasets as tfds

from trainer.data.diagnose import IMAGE_STARTS
from trainer.data.directory import OnProgress
from trainer.data.index import refuse_compressed
from trainer.data.manifest import DATASET_INFO_FILE, FEATURES_FILE, INDEX_SUFFIX
from trainer.data.tfrecord import cut_records, scan
from trainer.errors import ConfigError, DataError
from trainer.storage import open_storage
from trainer.storage.base import Storage

_RECORDS = re.compile(r".*(tfrecords?|\.tfr)\b.*", re.IGNORECASE)
# Which of several files one is: as TensorFlow numbers them, or by a number alone.
_SHARD = re.compile(r"\d{5}-of-\d{5}|\d{5}")
_SPLIT = re.compile(r"(?<![a-z])(train|validation|valid|val|test|eval)(?![a-z])")
_CHUNK_RECORDS = 1000


@dataclass
class Seen:
    """What the records so far hold under one name."""

    kinds: set[str] = field(default_factory=set)
    lengths: set[int] = field(default_factory=set)
    is_image: bool = True
    records: int = 0
    least: int = 0
    most: int = 0

    def add(self, feature: Any) -> None:
        """One more."""
        kind = feature.WhichOneof("kind")
        values = getattr(feature, kind).value if kind else ()
        self.records += 1
        self.kinds.add(kind or "nothing")
        self.lengths.add(len(values))
        if kind == "bytes_list":
            self.is_image &= all(value.startswith(IMAGE_STARTS) for value in values)
        elif kind == "int64_list":
            self.least, self.most = min([self.least, *values]), max([self.most, *values])

    def feature(self, *, is_label: bool) -> Any:
        """The same for TensorFlow Datasets."""
        features, (kind,) = tfds.features, self.kinds
        if is_label:
            return features.ClassLabel(num_classes=self.most + 1)
        if kind == "bytes_list" and self.is_image and self.lengths == {1}:
            return features.Image(shape=(None, None, 3))
        dtype = {"int64_list": tf.int64, "float_list": tf.float32}.get(kind)
        one = features.Text() if dtype is None else features.Scalar(dtype)
        if self.lengths == {1}:
            return one
        if len(self.lengths) > 1 or dtype is None:
            return features.Sequence(one)
        return features.Tensor(shape=(*self.lengths,), dtype=dtype)


def describe(url: str, *, label: str | None = None, say: OnProgress = lambda _: None) -> None:
    """Write what describes the TFRecord files in `url`, unless they are described.

    label: the feature of integers from 0 on that are classes.

    Raises:
        ConfigError: no such label, or files of which it is unclear how they belong together.
        DataError: no files, compressed or damaged ones, or records that are not of one form.
    """
    storage = open_storage(url)
    names = [entry.path for entry in storage.list() if "/" not in entry.path]
    files = [n for n in names if _RECORDS.fullmatch(n) and not n.endswith(INDEX_SUFFIX)]
    if DATASET_INFO_FILE in names or not files:
        return
    seen: dict[str, Seen] = {}
    lengths = {file: _look(storage, file, seen) for file in files}
    say(f"found {sum(lengths.values()):,} records: {', '.join(sorted(seen))}")
    features = tfds.features.FeaturesDict(_features(seen, sum(lengths.values()), label))
    with TemporaryDirectory() as folder:
        features.save_config(folder)
        storage.write(FEATURES_FILE, (Path(folder) / FEATURES_FILE).read_bytes())
    name = re.sub(r"[^a-z0-9]+", "_", Path(url.rstrip("/")).name.lower()).strip("_") or "own"
    splits = [_split(split, own, lengths) for split, own in _splits(files).items()]
    tree = {"name": name, "version": "1.0.0", "fileFormat": "tfrecord", "splits": splits}
    storage.write(DATASET_INFO_FILE, (json.dumps(tree, indent=1) + "\n").encode())


def _look(storage: Storage, file: str, seen: dict[str, Seen]) -> int:
    """How many records there are; what they hold goes to `seen`."""
    number = 0
    for payload in _payloads(storage, file):
        try:
            example = tf.train.Example.FromString(payload)
        except Exception as error:  # protobuf's own, of either implementation
            raise DataError(
                f"record {number} of {file} is no tf.train.Example ({type(error).__name__}):"
                " prepare a data set of the originals by 'trainer data prepare'"
            ) from None
        for name, feature in example.features.feature.items():
            seen.setdefault(name, Seen()).add(feature)
        number += 1
    return number


def _payloads(storage: Storage, file: str) -> Iterator[bytes]:
    size = storage.stat(file).size
    found = scan(lambda start, length: storage.read(file, start=start, length=length), size)
    if found.bad:
        refuse_compressed(storage, file)
        offset, reason = found.bad[0]
        raise DataError(f"record at byte {offset} of {file}: {reason}: write the file again")
    for first in range(0, len(found.index.offsets) - 1, _CHUNK_RECORDS):
        offsets = found.index.part(first, _CHUNK_RECORDS).offsets
        start, end = offsets[[0, -1]].tolist()
        yield from cut_records(storage.read(file, start=start, length=end - start), offsets)


def _features(seen: dict[str, Seen], records: int, label: str | None) -> dict[str, Any]:
    for name, found in seen.items():
        if len(found.kinds) > 1 or found.records < records:
            raise DataError(
                f"feature '{name}' is in {found.records} of {records} records, as"
                f" {' and '.join(sorted(found.kinds))}: write all records alike"
            )
    if label is not None:
        own = seen.get(label)
        if own is None or own.kinds != {"int64_list"} or own.lengths != {1} or own.least < 0:
            raise ConfigError(
                f"--label {label}: not one integer of at least 0 in each record, of"
                f" {', '.join(sorted(seen))}"
            )
    return {name: found.feature(is_label=name == label) for name, found in sorted(seen.items())}


def _splits(files: list[str]) -> dict[str, list[str]]:
    """Files by split, which their names tell; else all are for training."""
    found: dict[str, list[str]] = {}
    for file in sorted(files):
        match = _SPLIT.search(file.lower())
        found.setdefault(match[0] if match else "train", []).append(file)
    return found


def _split(name: str, files: list[str], lengths: dict[str, int]) -> dict[str, Any]:
    template = files[0]
    if len(files) > 1:
        of = f"-of-{len(files):05d}"
        number = "{SHARD_X_OF_Y}" if of in files[0] else "{SHARD_INDEX}"
        template = _SHARD.sub(number, files[0], count=1)
        expected = [
            template.format(SHARD_INDEX=f"{i:05d}", SHARD_X_OF_Y=f"{i:05d}{of}")
            for i in range(len(files))
        ]
        if files != expected:
            raise ConfigError(
                f"the files {files[0]}, {files[1]}{', …' * (len(files) > 2)} of split '{name}' are"
                f" not numbered from 00000 on: call them {name}-00000{of}.tfrecord and so on"
            )
    counts = [str(lengths[file]) for file in files]
    return {"name": name, "shardLengths": counts, "filepathTemplate": template}
