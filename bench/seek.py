"""Time to the first batch of a run that goes on late in an epoch, against one early in it.

A data set of a million small records, read from disk block by block; the pipeline begins at the
step as after a restore, with nothing of the epoch in memory.
"""

import struct
import tempfile
from collections.abc import Callable
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np

from bench.pairs import (
    Result,
    median_ratio,
    milliseconds,
    noise_floor,
    run_alone,
    take_turns,
    timed,
)
from trainer.config import DataConfig
from trainer.data.manifest import Manifest, Shard, Split, write_manifest
from trainer.data.spec import DataSpec
from trainer.data.tfrecord import OVERHEAD_BYTES, checksum, encode_index, masked_crc32c, scan
from trainer.storage import open_storage

NUM_RECORDS, NUM_SHARDS = 1_000_000, 10
BATCH_SIZE = 64
EARLY, LATE, AIM = 0.05, 0.95, 1.2
ROUNDS = 15


def measure() -> list[Result]:
    """Seconds to the first batch, late / early."""
    with tempfile.TemporaryDirectory(prefix="bench-seek-") as folder:
        built = timed(lambda: write_dataset(Path(folder)))
        seconds = take_turns(
            {
                "early": _resume_at(folder, EARLY),
                "early again": _resume_at(folder, EARLY),
                "late": _resume_at(folder, LATE),
            },
            rounds=ROUNDS, warm_ups=1,
        )  # fmt: skip
    details = {
        "records": f"{NUM_RECORDS:,}, built in {built:.1f} s",
        f"at {EARLY:.0%}": f"{milliseconds(seconds['early'])} ms",
        f"at {LATE:.0%}": f"{milliseconds(seconds['late'])} ms",
    }
    noise = noise_floor(seconds["early"], seconds["early again"])
    ratio = median_ratio(seconds["late"], seconds["early"])
    return [Result("seek", ratio, noise, AIM, "lower", details)]


def _resume_at(folder: str, share: float) -> Callable[[], float]:
    from trainer.data.dataset import open_dataset
    from trainer.data.pipeline import Place

    config = DataConfig(url=folder, batch_size=BATCH_SIZE, cache="stream")
    spec = DataSpec(lambda features: (features["x"], features["y"]))
    # Steps lie differently in the blocks: each turn looks at another one.
    turns = count()

    def turn() -> float:
        # Opened anew: whatever an earlier turn had learnt or read is forgotten.
        pipeline = open_dataset(config, spec, seed=0, threads=2).training(Place())
        step = int(share * pipeline.order.steps_per_epoch) + 37 * next(turns)
        return timed(lambda: next(iter(pipeline.dataset(step))))

    return turn


def write_dataset(folder: Path) -> None:
    """Records {x: int64, y: int64} as TensorFlow Datasets and `data prepare` leave them."""
    import tensorflow_datasets as tfds

    scalar = tfds.features.Scalar(np.int64)
    features = tfds.features.FeaturesDict({"x": scalar, "y": scalar})
    features.save_config(str(folder))
    storage = open_storage(str(folder))
    per_shard = NUM_RECORDS // NUM_SHARDS
    shards = []
    for number in range(NUM_SHARDS):
        name = f"synthetic-train.tfrecord-{number:05d}-of-{NUM_SHARDS:05d}"
        data = _records(features, number * per_shard, per_shard)
        index = encode_index(scan(partial(_read, data), len(data)).index)
        storage.write(name, data)
        storage.write(f"{name}.index", index)
        shards.append(Shard(name, per_shard, len(data), checksum(data), checksum(index)))
    split = Split("train", tuple(shards))
    write_manifest(storage, Manifest("synthetic", "1.0.0", {"train": split}, "0" * 64))


def _read(data: bytes, start: int, length: int) -> bytes:
    return data[start : start + length]


def _records(features: Any, first: int, number: int) -> bytes:
    """Framed records `first`, first + 1, …: one serialized example, patched for each number."""
    # Values of four varint bytes, so that all records are equally long.
    base = 1 << 21
    template = np.frombuffer(features.serialize_example({"x": base, "y": base}), np.uint8)
    marker = _varints(np.asarray([base]))[0]
    places = [at for at in range(len(template) - 3) if (template[at : at + 4] == marker).all()]
    payloads = np.tile(template, (number, 1))
    for place in places:
        payloads[:, place : place + 4] = _varints(base + first + np.arange(number))
    length = struct.pack("<Q", len(template))
    header = np.frombuffer(length + struct.pack("<I", masked_crc32c(length)), np.uint8)
    rows = payloads.tobytes()
    size = len(template)
    crcs = [google_crc32c.value(rows[at : at + size]) for at in range(0, len(rows), size)]
    records = np.empty((number, OVERHEAD_BYTES + size), np.uint8)
    records[:, :12] = header
    records[:, 12:-4] = payloads
    records[:, -4:] = _masked(np.asarray(crcs, np.uint32)).astype("<u4")[:, None].view(np.uint8)
    return records.tobytes()


def _varints(values: Any) -> Any:
    """Four bytes each, uint8 [n, 4], of numbers from 2**21 to 2**28 - 1."""
    sevens = (values[:, None] >> np.arange(0, 28, 7)) & 0x7F
    return (sevens | [0x80, 0x80, 0x80, 0]).astype(np.uint8)


def _masked(crc: Any) -> Any:
    """CRCs as TFRecord files hold them."""
    return ((crc >> np.uint32(15)) | (crc << np.uint32(17))) + np.uint32(0xA282EAD8)


MEASURES = {"seek": measure}

if __name__ == "__main__":
    run_alone(MEASURES, about=__doc__)
