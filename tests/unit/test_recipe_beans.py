"""What recipe beans makes of a record, its phases, and where a backbone's weights come from."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from trainer.errors import ConfigError
from trainer.recipes.beans import BeansParams, recipe
from trainer.recipes.beans_model import MAX_WEIGHTS_BYTES, backbone, build, load_weights
from trainer.recipes.catalog import load_run
from trainer.storage import gcs, open_storage

# Keras' convert_to_numpy, as it saves weights, under numpy 2.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

SMALL = {"image_size": 32, "alpha": 0.1}
HALVES = np.concatenate([np.zeros((50, 100, 3)), np.full((50, 100, 3), 128)]).astype(np.uint8)
RECORD = {"image": HALVES, "label": np.int64(2)}


# parameters, weight
@pytest.mark.parametrize(
    ("params", "weight"),
    [
        ({}, None),
        ({"class_weights": (1.0, 1.0, 3.0)}, 3.0),
        ({"weigh_by_contrast": True}, 64 / 35),
        ({"class_weights": (1.0, 1.0, 3.0), "weigh_by_contrast": True}, 3 * 64 / 35),
    ],
)
def test_records_are_decoded_alike_eagerly_and_in_a_graph(params, weight):
    decode = recipe.data(BeansParams(image_size=32, **params)).decode
    record = {name: tf.constant(value) for name, value in RECORD.items()}
    for found in (decode(record), tf.function(decode)(record)):
        photo, label, *rest = found
        assert (photo.shape, photo.dtype, int(label)) == ((32, 32, 3), tf.uint8, 2)
        assert (int(photo[0, 0, 0]), int(photo[-1, -1, -1])) == (0, 128)
        assert [float(w) for w in rest] == ([] if weight is None else [pytest.approx(weight)])


@pytest.mark.long
def test_the_real_records_are_decoded():
    import tensorflow_datasets as tfds

    with tfds.testing.mock_data(num_examples=2):
        data = tfds.load("beans", split="train")
    assert data.element_spec["image"].shape == (500, 500, 3)
    x, y = next(iter(data.map(recipe.data(BeansParams()).decode).batch(2)))
    assert (x.shape, x.dtype, y.shape) == ((2, 96, 96, 3), tf.uint8, (2,))
    assert 0 <= int(tf.reduce_min(y)) <= int(tf.reduce_max(y)) < BeansParams().classes
    assert build(BeansParams()).predict_on_batch(x).shape == (2, 3)


def batch(seed=0):
    """Eight photos of noise."""
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (8, 32, 32, 3), np.uint8), rng.integers(0, 3, 8)


# phase -> kinds of variables that a step changes
CHANGES = {
    "whole": {"head", "backbone", "statistics"},
    "head": {"head"},
    "fine_tune": {"head", "backbone"},
}


@pytest.mark.parametrize(
    "phase", [pytest.param(p, marks=() if p == "head" else pytest.mark.long) for p in CHANGES]
)
def test_a_phase_trains_what_it_says(phase):
    model = build(BeansParams(phase=phase, **SMALL))
    model.run_eagerly = True  # quicker than to trace it once
    before = {variable.path: np.asarray(variable).copy() for variable in model.weights}
    model.train_on_batch(*batch())
    changed = [v.path for v in model.weights if not np.array_equal(v, before[v.path])]
    kinds = {
        "head" if path.startswith("head") else "statistics" if "/moving_" in path else "backbone"
        for path in changed
    }
    assert kinds == CHANGES[phase]


@pytest.mark.parametrize("phase", ["head", "fine_tune"])
def test_its_backbone_predicts_in_training_what_it_predicts_later(phase):
    model = build(BeansParams(phase=phase, dropout=0.0, **SMALL))
    photos, _ = batch()
    assert np.array_equal(model(photos, training=True), model(photos, training=False))


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """Weights of a backbone, in a file."""
    keras.utils.set_random_seed(7)
    path = tmp_path_factory.mktemp("weights") / "small.weights.h5"
    backbone(BeansParams(**SMALL)).save_weights(path)
    return path


def is_of_file(params):
    """Whether a run begins with the file's weights in the model's backbone."""
    keras.utils.set_random_seed(7)
    wanted = backbone(BeansParams(**SMALL)).get_weights()
    model = build(params)
    recipe.begin(params, model)
    found = model.get_layer("backbone").get_weights()
    return all(np.array_equal(a, b) for a, b in zip(found, wanted, strict=True))


@pytest.mark.parametrize("form", [pytest.param("{}", marks=pytest.mark.long), "file://{}"])
def test_weights_come_from_a_file(file, form):
    assert is_of_file(BeansParams(weights=form.format(file), phase="head", **SMALL))
    assert not is_of_file(BeansParams(**SMALL))


@pytest.mark.long
@pytest.mark.needs_gcs
def test_weights_come_from_a_bucket(file, proxy):
    gcs._client.cache_clear()
    open_storage("gs://bucket/weights").write("b.weights.h5", file.read_bytes())
    assert is_of_file(BeansParams(weights="gs://bucket/weights/b.weights.h5", **SMALL))


def test_weights_of_another_width_are_refused(file):
    with pytest.raises(ConfigError, match=r"small\.weights\.h5 does not hold .*params\.alpha"):
        load_weights(backbone(BeansParams(image_size=32, alpha=0.35)), str(file))


def test_what_is_no_file_of_weights_is_refused(tmp_path):
    path = tmp_path / "no.weights.h5"
    path.write_bytes(b"nothing of that kind")
    with pytest.raises(ConfigError, match="does not hold the weights of this backbone"):
        load_weights(backbone(BeansParams(**SMALL)), str(path))


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"no file params\.weights .*none\.weights\.h5"):
        load_weights(None, f"{tmp_path}/none.weights.h5")


def test_a_huge_file_is_not_read(tmp_path):
    path = tmp_path / "huge.weights.h5"
    with path.open("wb") as opened:
        opened.truncate(MAX_WEIGHTS_BYTES + 1)
    with pytest.raises(ConfigError, match="268435457 bytes, of at most 268435456"):
        load_weights(None, str(path))


@pytest.mark.parametrize("weights", ["imagenet", "weights.pkl", "https://h/x.weights.h5"])
def test_weights_from_elsewhere_are_refused_before_anything_starts(weights):
    with pytest.raises(ConfigError, match=r"params\.weights"):
        load_run("beans", [f"params.weights={weights}"])


def test_imagenet_is_refused_with_the_way_out():
    with pytest.raises(ConfigError, match=r"nothing is downloaded.*save_weights\("):
        load_run("beans", ["params.weights=imagenet"])


def test_each_class_has_a_weight():
    with pytest.raises(ConfigError, match="give 10 numbers of at least 0, or none"):
        load_run("beans", ["params.class_weights=[1, 2]", "params.classes=10"])
