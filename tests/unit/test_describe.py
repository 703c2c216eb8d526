"""TFRecord files that nobody described are indexed where they lie; compressed ones are refused."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from click.testing import CliRunner

from trainer.cli.data import data
from trainer.data.directory import is_described
from trainer.data.facts import read_facts
from trainer.data.index import index_directory
from trainer.data.own.describe import describe
from trainer.data.verify import verify
from trainer.errors import ConfigError, DataError
from trainer.storage import open_storage

PNG = tf.io.encode_png(np.zeros((4, 5, 3), np.uint8)).numpy()


def feature(value: list) -> tf.train.Feature:
    if isinstance(value[0], bytes):
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=value))
    if isinstance(value[0], int):
        return integers(value)
    return tf.train.Feature(float_list=tf.train.FloatList(value=value))


def integers(value: list[int]) -> tf.train.Feature:
    return tf.train.Feature(int64_list=tf.train.Int64List(value=value))


def record(number: int) -> dict[str, list]:
    return {
        "picture": [PNG], "words": [b"one", b"two"][: 1 + number % 2], "vector": [0.5, number / 4],
        "kind": [number % 3], "name": [b"n%d" % number],
    }  # fmt: skip


def write(file: Path, numbers: range, *, options: str = "", make=record) -> None:
    with tf.io.TFRecordWriter(str(file), options) as writer:
        for number in numbers:
            own = {name: feature(value) for name, value in make(number).items()}
            example = tf.train.Example(features=tf.train.Features(feature=own))
            writer.write(example.SerializeToString())


def indexed(folder: Path, label: str | None = "kind"):
    describe(str(folder), label=label)
    return index_directory(str(folder))


def test_files_are_described_and_indexed_where_they_lie(tmp_path: Path) -> None:
    write(tmp_path / "train-00000-of-00002.tfrecord", range(4))
    write(tmp_path / "train-00001-of-00002.tfrecord", range(4, 7))
    write(tmp_path / "test.tfrecord", range(7, 9))
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    manifest = indexed(tmp_path)
    assert {name: split.num_records for name, split in manifest.splits.items()} == {
        "train": 7,
        "test": 2,
    }
    assert all((tmp_path / name).read_bytes() == data for name, data in before.items())
    storage = open_storage(str(tmp_path))
    assert verify(storage) == []
    facts = read_facts(storage)
    assert facts.label().num_classes == 3
    assert facts.features["picture"].is_image
    features = tfds.features.FeaturesDict.from_config(str(tmp_path))
    records = tf.data.TFRecordDataset(str(tmp_path / "test.tfrecord"))
    found = next(iter(tfds.as_numpy(records.map(features.deserialize_example))))
    assert found["picture"].shape == (4, 5, 3)
    assert (found["vector"].tolist(), found["kind"], found["name"]) == ([0.5, 1.75], 1, b"n7")
    assert found["words"].tolist() == [b"one", b"two"]
    assert is_described(str(tmp_path))
    again = CliRunner().invoke(data, ["index", str(tmp_path), "--label", "words"])
    assert isinstance(again.exception, ConfigError)
    assert "leave --label out, or remove features.json and" in str(again.exception)


def test_files_that_are_numbered_by_a_number_alone(tmp_path: Path) -> None:
    for number in range(3):
        write(tmp_path / f"part-{number:05d}.tfrecord", range(3))
    assert indexed(tmp_path).splits["train"].num_records == 9


def test_an_image_without_boxes_is_a_record_as_any_other(tmp_path: Path) -> None:
    with tf.io.TFRecordWriter(str(tmp_path / "train.tfrecord")) as writer:
        for number in range(3):
            lists = {"boxes": [7] * number, "crowds": []}
            features = {name: integers(value) for name, value in lists.items()}
            example = tf.train.Example(features=tf.train.Features(feature=features))
            writer.write(example.SerializeToString())
    assert indexed(tmp_path, None).splits["train"].num_records == 3
    features = tfds.features.FeaturesDict.from_config(str(tmp_path))
    records = tf.data.TFRecordDataset(str(tmp_path / "train.tfrecord"))
    found = list(tfds.as_numpy(records.map(features.deserialize_example)))
    assert [row["boxes"].tolist() for row in found] == [[], [7], [7, 7]]
    assert [row["crowds"].tolist() for row in found] == [[], [], []]


@pytest.mark.parametrize("kind", ["GZIP", "ZLIB"])
def test_compressed_files_are_refused_with_the_way_out(tmp_path: Path, kind: str) -> None:
    write(tmp_path / "train.tfrecord", range(3), options=kind)
    with pytest.raises(DataError, match=r"train\.tfrecord .* is compressed.*gzip -dc"):
        indexed(tmp_path)
    assert not is_described(str(tmp_path))


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["train_a.tfrecord", "train_b.tfrecord"], "are not numbered from 00000 on"),
        (["train-00001.tfrecord", "train-00002.tfrecord"], "call them train-00000-of-00002"),
    ],
)
def test_files_of_which_the_order_is_unclear(tmp_path: Path, names: list, message: str) -> None:
    for name in names:
        write(tmp_path / name, range(2))
    with pytest.raises(ConfigError, match=message):
        indexed(tmp_path)


def test_records_that_differ_and_labels_that_are_none(tmp_path: Path) -> None:
    def differing(number: int) -> dict[str, list]:
        return {"kind": [number]} | ({"more": [1]} if number else {})

    write(tmp_path / "train.tfrecord", range(2), make=differing)
    with pytest.raises(DataError, match="feature 'more' is in 1 of 2 records"):
        indexed(tmp_path)
    write(tmp_path / "train.tfrecord", range(2))
    with pytest.raises(ConfigError, match="--label name: not one integer"):
        indexed(tmp_path, "name")


def test_records_that_are_no_examples(tmp_path: Path) -> None:
    with tf.io.TFRecordWriter(str(tmp_path / "train.tfrecord")) as writer:
        writer.write(b"\xff\xff\xff")
    with pytest.raises(DataError, match=r"record 0 of train\.tfrecord is no tf\.train\.Example"):
        indexed(tmp_path)
