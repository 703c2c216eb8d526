"""What recipe tickets makes of a record, and its two forms."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from trainer.errors import ConfigError
from trainer.recipes.catalog import load_run
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


def decoded(structure="dicts", difficulty=False, **changed):
    """The record, eagerly and inside of a graph."""
    decode = recipe.data(TicketsParams(structure=structure, difficulty=difficulty)).decode
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


@pytest.mark.parametrize(("words", "difficulty"), [(12, 0), (13, 1), (19, 1), (20, 2)])
def test_difficulty_is_how_long_the_text_is(words, difficulty):
    for _, y in decoded(difficulty=True, body="a-b, c. " * (words // 3) + "d " * (words % 3)):
        assert list(y) == ["priority", "department", "difficulty"]
        assert (int(y["difficulty"]), y["difficulty"].dtype) == (difficulty, tf.int64)


@pytest.mark.parametrize(
    ("form", "structure"),
    [
        pytest.param(form, structure, marks=() if rare == 0 else pytest.mark.long)
        for form in FORMS
        for rare, structure in enumerate(STRUCTURES)
    ],
)
def test_a_third_output_is_grown_and_trains_alone(form, structure):
    params = {"form": form, "structure": structure, "units": 4, "dropout": 0.0}
    model = build(TicketsParams(difficulty=True, frozen=True, difficulty_weight=0.5, **params))
    x, y = batch(structure)
    target = np.arange(8) % 3
    y = {**y, "difficulty": target} if structure == "dicts" else (*y, target)
    before = {variable.path: np.asarray(variable).copy() for variable in model.weights}
    logs = model.train_on_batch(x, y, return_dict=True)
    assert logs["loss"] == pytest.approx(
        logs["priority_loss"] + logs["department_loss"] + 0.5 * logs["difficulty_loss"], rel=1e-5
    )
    assert "difficulty_accuracy" in logs
    changed = [v.path for v in model.weights if not np.array_equal(v, before[v.path])]
    assert [path.split("/")[-2] for path in changed] == ["difficulty"] * 2
    assert len(model.optimizer.variables) == 2 + len(changed)


@pytest.mark.parametrize("form", FORMS)
def test_the_layers_of_a_grown_model_are_those_of_the_first(form):
    keras.utils.clear_session()
    first = {v.path: v.shape for v in build(TicketsParams(form=form)).weights}
    keras.utils.clear_session()
    more = {v.path: v.shape for v in build(TicketsParams(form=form, difficulty=True)).weights}
    assert first.items() < more.items()
    assert len(more) == len(first) + 2


def test_frozen_needs_something_that_trains():
    with pytest.raises(ConfigError, match=r"params\.difficulty=true"):
        load_run("tickets", ["params.frozen=true"])
