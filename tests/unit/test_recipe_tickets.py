"""What recipe tickets makes of a record, and its two forms."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from trainer.recipes.tickets import INPUTS, TicketsParams, recipe
from trainer.recipes.tickets_model import build

RECORD = {
    "title": "Fix os.path, on Windows",
    "body": "fix OS path fix",
    "tags": ["os", "os.path"],
    "priority": np.int64(1),
    "department": np.int64(9),
}
FORMS = ["functional", "subclassed"]
STRUCTURES = ["dicts", "lists"]


def decoded(structure="dicts", **changed):
    """The record, eagerly and inside of a graph."""
    decode = recipe.data(TicketsParams(structure=structure)).decode
    record = {name: tf.constant(value) for name, value in (RECORD | changed).items()}
    return decode(record), tf.function(decode)(record)


def test_texts_become_words_at_places_that_never_change():
    for x, _ in decoded():
        title, body, tags = (np.flatnonzero(x[name]) for name in INPUTS)
        # path, fix, windows, on, os
        assert title.tolist() == [4520, 5144, 5427, 7212, 8713]
        assert set(body.tolist()) < set(title.tolist())  # the same words, without "on Windows"
        assert (len(body), len(tags)) == (3, 2)


def test_shapes_and_types_are_known_before_any_record():
    for x, y in decoded(title="", tags=tf.zeros([0], tf.string)):
        assert {name: (v.shape, v.dtype) for name, v in x.items()} == {
            name: ((size,), tf.uint8) for name, size in INPUTS.items()
        }
        assert (y["priority"].dtype, y["department"].dtype) == (tf.float32, tf.int64)
        assert not np.any(x["tags"])


def test_what_goes_by_position_is_what_goes_by_name():
    (x, y), (by_position, targets) = decoded()[0], decoded("lists")[0]
    assert all(np.array_equal(a, b) for a, b in zip(x.values(), by_position, strict=True))
    assert tuple(map(float, targets)) == (float(y["priority"]), float(y["department"])) == (1, 9)


def batch(structure):
    """Eight records of noise, as a model of that structure takes them."""
    rng = np.random.default_rng(0)
    x = {n: rng.integers(0, 2, (8, size), np.uint8) for n, size in INPUTS.items()}
    y = {"priority": rng.random(8, np.float32), "department": rng.integers(0, 11, 8)}
    return (x, y) if structure == "dicts" else (tuple(x.values()), tuple(y.values()))


@pytest.mark.parametrize("structure", STRUCTURES)
@pytest.mark.parametrize("form", FORMS)
def test_each_output_has_its_loss_weight_and_metric(form, structure):
    params = TicketsParams(form=form, structure=structure, units=4, priority_weight=0.25)
    logs = build(params).test_on_batch(*batch(structure), return_dict=True)
    assert logs["loss"] == pytest.approx(
        0.25 * logs["priority_loss"] + logs["department_loss"], rel=1e-5
    )
    assert {"priority_mean_absolute_error", "department_accuracy"} < set(logs)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_a_model_comes_back_from_its_file(form, tmp_path):
    model = build(TicketsParams(form=form, units=4))
    x, _ = batch("dicts")
    expected = model(x)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras", compile=False)(x)
    assert all(np.array_equal(again[name], expected[name]) for name in expected)
