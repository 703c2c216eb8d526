"""A small data set in the form that TensorFlow Datasets writes, without TensorFlow."""

import json
from pathlib import Path

from trainer.data.index import index_directory
from trainer.data.manifest import MANIFEST_FILE, Manifest
from trainer.data.tfrecord import checksum, frame

FEATURES = {"pythonClassName": "FeaturesDict", "featuresDict": {"features": {}}}


def payload(number: int) -> bytes:
    """The payload of record `number` of any split; lengths differ."""
    return f"record {number} ".encode() * (1 + number % 3)


def shard_name(split: str, shard: int, num_shards: int) -> str:
    """How TensorFlow Datasets calls the file."""
    return f"small-{split}.tfrecord-{shard:05d}-of-{num_shards:05d}"


def write_files(folder: Path, splits: dict[str, list[int]]) -> None:
    """Shards with so many records each, dataset_info.json and features.json; no manifest."""
    folder.mkdir(parents=True, exist_ok=True)
    for split, counts in splits.items():
        number = 0
        for shard, count in enumerate(counts):
            records = [frame(payload(i)) for i in range(number, number + count)]
            number += count
            (folder / shard_name(split, shard, len(counts))).write_bytes(b"".join(records))
    write_info(folder, splits)
    (folder / "features.json").write_text(json.dumps(FEATURES))


def write_info(folder: Path, splits: dict[str, list[int]]) -> None:
    """dataset_info.json of shards with so many records each."""
    infos = [
        {"name": split, "shardLengths": [str(count) for count in counts]}
        for split, counts in splits.items()
    ]
    info = {"name": "small", "version": "1.0.0", "fileFormat": "tfrecord", "splits": infos}
    (folder / "dataset_info.json").write_text(json.dumps(info))


def write_dataset(folder: Path, splits: dict[str, list[int]]) -> Manifest:
    """The same with indexes and manifest."""
    write_files(folder, splits)
    return index_directory(str(folder))


def spoil_crcs(folder: Path, shard: str) -> None:
    """Put wrong CRCs of good records into a shard's index, with a manifest that vouches for it."""
    file, manifest = folder / f"{shard}.index", folder / MANIFEST_FILE
    good = file.read_bytes()
    at = len(good) * 2 // 3
    spoilt = good[:at] + bytes(byte ^ 1 for byte in good[at:])
    file.write_bytes(spoilt)
    manifest.write_text(manifest.read_text().replace(checksum(good), checksum(spoilt)))


def flip_bit(file: Path, offset: int) -> None:
    """Damage one byte of a file."""
    data = bytearray(file.read_bytes())
    data[offset] ^= 1
    file.write_bytes(data)
