"""Decoding records, refusing what cannot be repeated, and errors that name the record."""

import json
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from tests.small_data import flip_bit, shard_name
from tests.small_training import as_pair, dataset_of, values, write_vectors
from trainer.data.index import index_directory
from trainer.data.pipeline import Pipeline, Place
from trainer.data.source import _features
from trainer.data.spec import DataSpec
from trainer.data.tfrecord import frame
from trainer.errors import ConfigError, DataError

GENERATOR = tf.random.Generator.from_seed(1)


def noise_of_a_global_state() -> Any:
    return tf.random.uniform([4])


def noise_of_a_generator() -> Any:
    return GENERATOR.uniform([4])


def noise_of_keras() -> Any:
    return keras.random.uniform([4])


def noise_in_a_branch() -> Any:
    return tf.cond(tf.constant(value=True), lambda: tf.random.normal([4]), lambda: tf.zeros([4]))


def noise_in_a_function() -> Any:
    return tf.function(tf.random.shuffle)(tf.range(4.0))


NOISES = [
    noise_of_a_global_state, noise_of_a_generator, noise_of_keras, noise_in_a_branch,
    noise_in_a_function,
]  # fmt: skip


@pytest.mark.parametrize("noise", NOISES)
def test_a_random_state_in_decode_is_refused(vectors: str, noise: Any) -> None:
    spec = DataSpec(lambda f: (f["x"] + noise(), f["y"]))
    with pytest.raises(ConfigError, match=r"decode uses .* resumed run cannot repeat: use tf"):
        dataset_of(vectors, spec).sample()


# A cache for each kind of noise: both see all records one by one.
@pytest.mark.parametrize(("noise", "cache"), [*zip(NOISES, ["memory", "stream"] * 3, strict=False)])
def test_a_random_state_in_augment_is_refused(vectors: str, noise: Any, cache: str) -> None:
    spec = DataSpec(as_pair, lambda example, _seed: (example[0] + noise(), example[1]))
    pipeline = dataset_of(vectors, spec, cache=cache).training(Place())
    with pytest.raises(ConfigError, match=r"augment uses .* the seed that augment receives"):
        pipeline.dataset()


def test_a_random_layer_in_augment_is_refused(vectors: str) -> None:
    flip = keras.layers.RandomFlip(data_format="channels_last")
    spec = DataSpec(as_pair, lambda e, _seed: (flip(tf.reshape(e[0], [2, 2, 1])), e[1]))
    with pytest.raises(ConfigError, match="AssignVariableOp"):
        dataset_of(vectors, spec).training(Place()).dataset()


def test_a_constant_seed_is_fine(vectors: str) -> None:
    spec = DataSpec(lambda f: (f["x"] + tf.random.stateless_uniform([4], [1, 2]), f["y"]))
    assert dataset_of(vectors, spec).sample()[0].shape == (1, 4)


def test_a_feature_that_is_not_there_is_named(vectors: str) -> None:
    with pytest.raises(ConfigError, match=r"given the features x, y of .*KeyError: 'image'"):
        dataset_of(vectors, DataSpec(lambda f: (f["image"], f["y"]))).sample()


def read_all(pipeline: Pipeline) -> None:
    """One pass; an error is that which a run would end with."""
    try:
        list(pipeline.dataset(num_passes=1))
    except tf.errors.OpError as error:
        raise pipeline.explain(error) from error


def test_a_damaged_record_keeps_its_error(tmp_path: Path) -> None:
    url = write_vectors(tmp_path, {"train": [30, 23]})
    flip_bit(tmp_path / shard_name("train", 1, 2), 20)
    pipeline = dataset_of(url, cache="stream").training(Place())
    with pytest.raises(DataError, match=r"record 0 of small-train.*00001-of-00002 .* at byte 0"):
        read_all(pipeline)


def test_a_damaged_record_is_named_when_data_are_held_in_memory(tmp_path: Path) -> None:
    url = write_vectors(tmp_path, {"train": [30, 23]})
    flip_bit(tmp_path / shard_name("train", 1, 2), 20)
    with pytest.raises(DataError, match=r"record 0 of small-train.*00001-of-00002"):
        dataset_of(url, cache="memory").training(Place())


@pytest.mark.parametrize("cache", ["memory", "stream"])
def test_a_replaced_record_leaves_the_rest_as_it_was(tmp_path: Path, cache: str) -> None:
    url = write_vectors(tmp_path, {"train": [30, 23]})
    flip_bit(tmp_path / shard_name("train", 1, 2), 20)
    dataset = dataset_of(url, cache=cache, max_bad_records=1)
    ((x, _), _) = next(iter(dataset.evaluation("train[25:35]", Place()).dataset(num_passes=1)))
    wanted = [values(31 if i == 30 else i)["x"] for i in range(25, 35)]
    assert np.array_equal(x.numpy(), wanted)


def drift(folder: Path) -> str:
    """A data set whose record 3 holds three numbers where four were declared."""
    url = write_vectors(folder, {"train": [53]})
    shard = folder / shard_name("train", 0, 1)
    feature = {
        "x": tf.train.Feature(float_list=tf.train.FloatList(value=[1, 2, 3])),
        "y": tf.train.Feature(int64_list=tf.train.Int64List(value=[0])),
    }
    strange = tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString()
    offsets = np.fromfile(f"{shard}.index", "<u8", 54)
    data = shard.read_bytes()
    shard.write_bytes(data[: offsets[3]] + frame(strange) + data[offsets[4] :])
    index_directory(url)
    return url


@pytest.mark.parametrize("cache", ["memory", "stream"])
def test_a_record_of_another_schema_is_named(tmp_path: Path, cache: str) -> None:
    with pytest.raises(DataError, match=r"record 3 of small-train.*'x'"):
        read_all(dataset_of(drift(tmp_path), cache=cache).training(Place()))


def test_f39_features_of_others_than_these_records_are_refused(tmp_path: Path) -> None:
    url = write_vectors(tmp_path, {"train": [53]})
    features = tmp_path / "features.json"
    features.write_text(features.read_text().replace("float32", "float64"))
    with pytest.raises(
        DataError, match=r"features\.json in .* has sha256 .*: .*'trainer data index"
    ):
        dataset_of(url).sample()


def test_an_error_of_the_model_stays_what_it_is(vectors: str) -> None:
    pipeline = dataset_of(vectors, cache="stream").training(Place())
    read_all(pipeline)
    error = tf.errors.InvalidArgumentError(None, None, "Matrix size-incompatible")
    assert pipeline.explain(error) is error


# chunk: records that are decoded together
@pytest.mark.parametrize(("cache", "chunk"), [("stream", 1), ("memory", 1024), ("memory", 1)])
def test_records_of_different_shapes_are_refused(
    vectors: str, cache: str, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainer.data.source._DECODE_CHUNK", chunk)
    spec = DataSpec(lambda f: (f["x"][: 1 + f["y"]], f["y"]))
    with pytest.raises(DataError, match=r"differ in shape and cannot be batched: \w.*; let"):
        read_all(dataset_of(vectors, spec, cache=cache).training(Place()))


class OwnFeature(tfds.features.Tensor):
    """A feature that whoever trains has brought."""


NAMED = {"pythonClassName": "named_by_data.Feature"}


@pytest.mark.parametrize(
    "tree",
    [
        NAMED,
        {"type": "named_by_data.Feature", "content": {}},
        {"python_class_name": "named_by_data.Feature"},
        {"featuresDict": {"features": {"x": {"sequence": {"feature": NAMED}}}}},
        {"jsonFeature": {"json": json.dumps([NAMED])}},
    ],
)
def test_no_module_is_imported_because_a_data_set_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tree: dict[str, Any]
) -> None:
    (tmp_path / "named_by_data.py").write_text("raise SystemExit('it ran')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(DataError, match=r"names the class named_by_data\.Feature"):
        _features(tree)


def test_a_feature_of_an_imported_module_is_read() -> None:
    own = tfds.features.FeaturesDict({"x": OwnFeature(shape=(2,), dtype=np.float32)})
    assert isinstance(_features(own.to_json())["x"], OwnFeature)
