"""What recipe cifar10 makes of a record, and its two forms."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from trainer.recipes.cifar10 import Cifar10Params, recipe
from trainer.recipes.cifar10_model import Cifar10Model, ClassifierHead, ConvBlock, build

FORMS = ["sequential", "subclassed"]
IMAGES = np.random.default_rng(0).random((6, 32, 32, 3), np.float32)
LABELS = np.arange(6)


def built(form="sequential"):
    """A small model, as a run with seed 0 begins."""
    keras.utils.clear_session()
    keras.utils.set_random_seed(0)
    return build(Cifar10Params(form=form, filters=4, units=8))


def trained(form):
    """Its variables by path after one step, those of its optimizer among them."""
    model = built(form)
    model.train_on_batch(IMAGES, LABELS)
    return {v.path: v.numpy() for v in (*model.variables, *model.optimizer.variables)}


def test_a_record_becomes_a_photo_of_numbers_up_to_one():
    decode = recipe.data(Cifar10Params()).decode
    record = {"image": tf.fill([32, 32, 3], tf.constant(255, tf.uint8)), "label": tf.constant(3)}
    for image, label in (decode(record), tf.function(decode)(record)):
        assert (image.shape, image.dtype) == ((32, 32, 3), tf.float32)
        assert (float(tf.reduce_min(image)), int(label)) == (1.0, 3)


@pytest.mark.long
def test_both_forms_have_the_same_variables_after_a_step():
    one, other = map(trained, FORMS)
    assert list(one) == list(other)
    assert all(np.array_equal(one[path], other[path]) for path in one)


def test_the_network_is_three_blocks_and_a_head():
    model = build(Cifar10Params())
    shapes = [variable.shape for variable in model.trainable_variables]
    assert shapes[::2] == [(3, 3, 3, 64), (3, 3, 64, 64), (3, 3, 64, 64), (1024, 128), (128, 10)]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_a_model_comes_back_from_its_file(form, tmp_path):
    model = built(form)
    expected = model(IMAGES)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras", compile=False)
    assert type(again) is type(model)
    assert np.array_equal(again(IMAGES), expected)


@pytest.mark.parametrize(
    "made",
    [
        ConvBlock(5, name="block"),
        ClassifierHead(7, 3, name="head", dtype="mixed_bfloat16"),
        Cifar10Model(5, 7, name="small", trainable=False),
    ],
)
def test_a_class_of_its_own_is_made_anew_from_its_configuration(made):
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(made))
    assert type(again) is type(made)
    assert again.get_config() == made.get_config()


def test_records_of_the_real_set_fit_decode_and_model(tmp_path):
    import tensorflow_datasets as tfds

    # Noise in the form of TensorFlow Datasets' own cifar10.
    with tfds.testing.mock_data(num_examples=4):
        records = tfds.load("cifar10", split="train", data_dir=tmp_path)
    images, labels = next(iter(records.map(recipe.data(Cifar10Params()).decode).batch(4)))
    assert (images.shape, images.dtype, labels.shape) == ((4, 32, 32, 3), tf.float32, (4,))
    assert set(records.element_spec) > {"image", "label"}
    assert built()(images).shape == (4, 10)
