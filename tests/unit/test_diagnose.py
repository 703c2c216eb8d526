"""A record that the parser refuses is named with its file and feature (F39)."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from trainer.data.builtin import resolve_data_url
from trainer.data.diagnose import diagnose, find_misfit, read_features
from trainer.data.manifest import Manifest, read_manifest
from trainer.data.pieces import Pieces
from trainer.data.reader import RecordReader
from trainer.errors import DataError
from trainer.storage import open_storage

FOLDER = resolve_data_url("builtin:fashion_mnist")
FEATURES = json.loads(Path(FOLDER, "features.json").read_text())


@pytest.fixture(scope="module")
def manifest() -> Manifest:
    return read_manifest(open_storage(FOLDER))


@pytest.fixture(scope="module")
def payloads(manifest: Manifest) -> list[bytes]:
    return (
        RecordReader(Pieces(open_storage(FOLDER)), manifest, "train").read(np.arange(2500)).tolist()
    )


def png(*shape: int) -> bytes:
    return tf.io.encode_png(np.zeros(shape, np.uint8)).numpy()


def ints(*values: int) -> tf.train.Feature:
    return tf.train.Feature(int64_list=tf.train.Int64List(value=values))


def floats(*values: float) -> tf.train.Feature:
    return tf.train.Feature(float_list=tf.train.FloatList(value=values))


def strings(*values: bytes) -> tf.train.Feature:
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=values))


def example(features: Mapping[str, Any]) -> bytes:
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()


def test_records_that_fit_are_passed_over(payloads: list[bytes], manifest: Manifest) -> None:
    records = [*payloads[:50], example({"label": ints(1)})]
    with pytest.raises(DataError, match="record 50 of fashion_mnist-train"):
        diagnose(records, np.arange(51), manifest, FEATURES, "train")


@pytest.mark.parametrize(
    ("features", "reason"),
    [
        ({"label": ints(1)}, r"'image' is missing \(it has: label\)"),
        ({"img": strings(b""), "label": ints(1)}, r"'image' is missing \(it has: img, label\)"),
        ({"image": strings(png(28, 28, 1))}, "'label' is missing"),
        (
            {"image": strings(png(28, 28, 1)), "label": floats(1.0)},
            "'label' holds floating-point numbers where integers",
        ),
        ({"image": strings(png(28, 28, 1)), "label": strings(b"1")}, "'label' holds strings"),
        ({"image": strings(png(28, 28, 1)), "label": ints(1, 2)}, "'label' holds 2 values"),
        ({"image": strings(png(28, 28, 1)), "label": ints(10)}, "'label' holds label 10 .* 10 cl"),
        ({"image": strings(png(32, 32, 1)), "label": ints(1)}, "'image' is an image of 32x32"),
        ({"image": strings(b"\0" * 784), "label": ints(1)}, "'image' is not an image"),
        ({"image": strings(png(28, 28, 1)[:-30]), "label": ints(1)}, "'image' cannot be decoded"),
        ({"image": ints(*range(784)), "label": ints(1)}, "'image' holds integers"),
        ({"image": strings(), "label": ints(1)}, "'image' holds 0 images"),
    ],
)
def test_f39_names_feature_file_and_record(
    payloads: list[bytes], manifest: Manifest, features: Mapping[str, Any], reason: str
) -> None:
    # Record 1,300 of the split is number 50 of the second of the shards of 1,250.
    batch = [payloads[0], example(features), payloads[2]]
    expected = rf"record 50 of fashion_mnist-train\.tfrecord-00001-of-00004 .*1300.*: .*{reason}"
    with pytest.raises(DataError, match=expected):
        diagnose(batch, np.array([0, 1300, 2]), manifest, FEATURES, "train")


def test_f39_bytes_that_are_no_example(manifest: Manifest) -> None:
    with pytest.raises(DataError, match=r"record 3 .* is not a tf\.train\.Example"):
        diagnose([b"\xff\xff"], np.array([3]), manifest, FEATURES, "train")


def test_what_tensorflow_datasets_wrote_fits_whatever_its_features(tmp_path: Path) -> None:
    features = tfds.features.FeaturesDict(
        {
            "any_size": tfds.features.Image(shape=(None, None, 3)),
            "jpeg": tfds.features.Image(shape=(4, 4, 3), encoding_format="jpeg"),
            "text": tfds.features.Text(),
            "matrix": tfds.features.Tensor(shape=(2, 3), dtype=np.float32),
            "scalar": tfds.features.Scalar(dtype=np.int32),
            "flag": np.bool_,
            "vector": tfds.features.Tensor(shape=(None,), dtype=np.int64),
            "nested": {"x": np.int64, "s": np.str_},
            "sequence": tfds.features.Sequence({"a": np.float32}),
            "box": tfds.features.BBoxFeature(),
            "packed": tfds.features.Tensor(shape=(2,), dtype=np.float32, encoding="zlib"),
        }
    )
    features.save_config(str(tmp_path))
    image = np.zeros((4, 4, 3), np.uint8)
    record = features.serialize_example(
        {
            "any_size": image,
            "jpeg": image,
            "text": "words",
            "matrix": np.zeros((2, 3), np.float32),
            "scalar": 3,
            "flag": True,
            "vector": np.zeros(0, np.int64),
            "nested": {"x": 1, "s": "words"},
            "sequence": {"a": [1.0, 2.0]},
            "box": tfds.features.BBox(0.0, 0.0, 1.0, 1.0),
            "packed": np.zeros(2, np.float32),
        }
    )
    expected = tuple(read_features(json.loads((tmp_path / "features.json").read_text())))
    assert {feature.name for feature in expected} >= {"nested/x", "matrix", "packed"}
    assert find_misfit(record, expected) is None
