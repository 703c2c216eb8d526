"""What recipe digits brings of its own: losses, a metric, and weights of records."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from trainer.errors import ConfigError
from trainer.recipes.catalog import load_run
from trainer.recipes.digits import DigitsParams, recipe
from trainer.recipes.digits_model import (
    CategoricalTruePositives,
    ModestSquaredError,
    build,
    squared_error,
)

LABELS = np.array([0, 1, 2])
SURE = 50.0 * np.eye(3, dtype="float32")  # logits that are right, without doubt
RECORD = {"image": np.full((8, 8, 1), 8, np.uint8), "label": np.int64(7)}
TWICE_SEVEN = (1.0,) * 7 + (2.0, 1.0, 1.0)


def test_the_metric_counts_what_is_right_and_starts_anew():
    metric = CategoricalTruePositives()
    metric.update_state(LABELS, SURE)
    metric.update_state(LABELS[:, None], SURE[[1, 1, 1]])
    found = metric.result()
    metric.reset_state()
    # Keras' fit looks at what training has counted when validation has begun to count.
    assert float(found) == 4
    assert float(metric.result()) == 0


def test_the_metric_counts_a_record_as_much_as_it_weighs():
    metric = CategoricalTruePositives()
    metric.update_state(LABELS, SURE[[0, 1, 0]], sample_weight=[0.5, 2.0, 8.0])
    assert float(metric.result()) == 2.5


def test_the_losses_are_one_number_a_record():
    wrong = SURE[[1, 1, 1]]
    assert np.allclose(squared_error(LABELS, wrong), [2 / 3, 0, 2 / 3], atol=1e-6)
    loss = ModestSquaredError(penalty=0.4)
    assert np.allclose(loss.call(LABELS, wrong), [2 / 3 + 0.1, 0.1, 2 / 3 + 0.1], atol=1e-6)
    assert float(loss(LABELS, wrong)) == pytest.approx(4 / 9 + 0.1)


def test_loss_and_metric_come_back_from_their_configuration():
    for one in (ModestSquaredError(penalty=0.4), CategoricalTruePositives()):
        again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(one))
        assert again.get_config() == one.get_config()


# parameters, y, weight
@pytest.mark.parametrize(
    ("params", "y", "weight"),
    [
        ({}, 7, None),
        ({"parity_weight": 0.5}, {"digit": 7, "parity": 1}, None),
        ({"class_weights": TWICE_SEVEN}, 7, 2.0),
        ({"weigh_by_ink": True}, 7, 0.5 / 0.305),
        ({"class_weights": TWICE_SEVEN, "weigh_by_ink": True}, 7, 1 / 0.305),
    ],
)
def test_records_are_decoded_alike_eagerly_and_in_a_graph(params, y, weight):
    decode = recipe.data(DigitsParams(**params)).decode
    record = {name: tf.constant(value) for name, value in RECORD.items()}
    for found in (decode(record), tf.function(decode)(record)):
        image, label, *rest = found
        assert (image.shape, image.dtype, float(image[0, 0, 0])) == ((8, 8, 1), tf.float32, 0.5)
        assert tf.nest.map_structure(int, label) == y
        assert [float(w) for w in rest] == ([] if weight is None else [pytest.approx(weight)])


def test_a_second_output_has_its_loss_and_metrics():
    model = build(DigitsParams(parity_weight=0.25, units=4))
    image, digit = np.zeros((5, 8, 8, 1), "float32"), np.arange(5)
    logs = model.test_on_batch(
        image, {"digit": digit, "parity": digit % 2}, sample_weight=np.ones(5), return_dict=True
    )
    assert logs["loss"] == pytest.approx(logs["digit_loss"] + 0.25 * logs["parity_loss"])
    assert {"digit_accuracy", "digit_true_positives", "parity_accuracy"} < set(logs)


@pytest.mark.parametrize("weights", ["[1, 2]", "[-1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"])
def test_weights_that_fit_no_class_are_refused(weights):
    with pytest.raises(ConfigError, match=r"params\.class_weights.*10 numbers"):
        load_run("digits", [f"params.class_weights={weights}"])
