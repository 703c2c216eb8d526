"""`trainer.fit`, `evaluate` and `predict` do what those of Keras do."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import trainer
from tests.small_script import BATCH, RECORDS, WEIGHTS, X, Y, plain

pytestmark = pytest.mark.usefixtures("given_back")


CALLS: list[dict[str, Any]] = [
    {"x": X, "y": Y, "validation_data": (X[:9], Y[:9], WEIGHTS[:9]), "validation_freq": 2},
    {
        "x": tf.data.Dataset.from_tensor_slices((X, Y, WEIGHTS)).batch(9).repeat(),
        "steps_per_epoch": 5,
        "validation_data": tf.data.Dataset.from_tensor_slices((X, Y)).batch(7),
        "validation_steps": 2,
    },
]
RARER: list[dict[str, Any]] = [
    {"x": X, "y": Y},
    {"x": X, "y": Y, "sample_weight": WEIGHTS, "batch_size": 10},
    {"x": X, "y": Y, "steps_per_epoch": 3, "validation_split": 0.3, "validation_steps": 1},
    {"x": X, "y": Y, "class_weight": {0: 0.2, 1: 2.0}},
    {"x": X, "y": Y, "batch_size": np.int64(10), "callbacks": keras.callbacks.TerminateOnNaN()},
    {"x": X, "y": Y, "steps_per_epoch": 5, "batch_size": BATCH},
    {"x": X, "y": Y, "validation_split": 0.2, "validation_batch_size": 5},
    {"x": X, "y": Y, "initial_epoch": 1},
    {"x": X.astype("float64"), "y": Y.astype("int32")},
    {"x": tf.data.Dataset.from_tensor_slices((X, Y)).batch(9)},
]


@pytest.mark.parametrize(
    "call", [*CALLS, *(pytest.param(call, marks=pytest.mark.long) for call in RARER)]
)
def test_the_same_as_keras(call: dict[str, Any], tmp_path: Path) -> None:
    theirs, more = plain()
    wanted = theirs.fit(**call, **more, verbose=0)
    trainer.setup(str(tmp_path))
    ours, more = plain()
    found = trainer.fit(ours, **call, **more, verbose=0)
    assert found.epoch == wanted.epoch
    assert found.history.keys() == wanted.history.keys()
    for name, values in wanted.history.items():
        np.testing.assert_allclose(found.history[name], values, rtol=2e-5, err_msg=name)
    for a, b in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def two_inputs() -> keras.Model:
    """By position; two outputs, too."""
    keras.utils.clear_session()
    keras.utils.set_random_seed(1)
    inputs = [keras.Input((2,)), keras.Input((2,))]
    joined = keras.layers.Concatenate()(inputs)
    model = keras.Model(inputs, [keras.layers.Dense(1)(joined), keras.layers.Dense(1)(joined)])
    model.compile("sgd", ["mse", "mae"])
    return model


class Listed(keras.utils.PyDataset):
    """Batches of lists of arrays."""

    def __len__(self) -> int:
        return 2

    def __getitem__(self, number: int) -> Any:
        rows = slice(number * 35, number * 35 + 35)
        return [X[rows, :2], X[rows, 2:]], [Y[rows], X[rows, 0]]


BY_POSITION = {"x": [X[:, :2], X[:, 2:]], "y": [Y, X[:, 0]], "batch_size": 35}


# Batches of lists are more than Keras takes.
@pytest.mark.parametrize("call", [BY_POSITION, {"x": Listed()}], ids=["arrays", "batches"])
def test_inputs_and_outputs_by_position(call: dict[str, Any], tmp_path: Path) -> None:
    theirs, ours = two_inputs(), two_inputs()
    wanted = theirs.fit(**BY_POSITION, shuffle=False, verbose=0)
    trainer.setup(str(tmp_path))
    found = trainer.fit(ours, **call, shuffle=False, verbose=0)
    assert found.history.keys() == wanted.history.keys()
    assert found.history["loss"] == pytest.approx(wanted.history["loss"], rel=2e-5)
    for a, b in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_batches_of_different_lengths(tmp_path: Path) -> None:
    """As `padded_batch` makes them."""
    texts = [[1 + number % 7] * (1 + number // 8) for number in range(RECORDS)]
    single = tf.data.Dataset.from_generator(
        lambda: zip(texts, Y, strict=True),
        output_signature=(tf.TensorSpec([None], tf.int32), tf.TensorSpec([], tf.int64)),
    )
    counted = single.apply(tf.data.experimental.assert_cardinality(RECORDS))
    data = counted.padded_batch(BATCH)
    trainer.setup(str(tmp_path))
    losses = []
    for fit in (keras.Model.fit, trainer.fit):
        keras.utils.set_random_seed(1)
        layers = [keras.Input((None,), dtype="int32"), keras.layers.Embedding(9, 4, mask_zero=True)]
        layers += [keras.layers.GlobalAveragePooling1D(), keras.layers.Dense(2)]
        model = keras.Sequential(layers)
        model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        losses.append(fit(model, data, epochs=2, shuffle=False, verbose=0).history["loss"])
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)


def test_classes_below_zero_have_weights(tmp_path: Path) -> None:
    call = {
        "x": X, "y": 2 * Y[:, None] - 1, "class_weight": {-1: 0.1, 1: 5.0}, "shuffle": False,
    }  # fmt: skip
    trainer.setup(str(tmp_path))
    losses = []
    for fit in (keras.Model.fit, trainer.fit):
        keras.utils.set_random_seed(1)
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
        model.compile("sgd", "hinge")
        losses.append(fit(model, **call, verbose=0).history["loss"])
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)


def test_evaluate_and_predict(tmp_path: Path) -> None:
    trainer.setup(str(tmp_path))
    model, _ = plain()
    wanted = model.evaluate(X, Y, verbose=0, batch_size=9, return_dict=True)
    found = trainer.evaluate(model, X, Y, batch_size=9, return_dict=True)
    assert found == pytest.approx(wanted, rel=1e-5)
    in_order = trainer.evaluate(model, X, Y, batch_size=9)
    assert in_order == pytest.approx(model.evaluate(X, Y, verbose=0, batch_size=9), rel=1e-5)
    outputs = trainer.predict(model, X, batch_size=9)
    np.testing.assert_allclose(outputs, model.predict(X, verbose=0, batch_size=9), atol=1e-6)
    data = tf.data.Dataset.from_tensor_slices((X, Y)).batch(9)
    np.testing.assert_array_equal(trainer.predict(model, data), outputs)


def test_a_part_of_the_records_is_measured_with_weights(tmp_path: Path) -> None:
    trainer.setup(str(tmp_path))
    model, _ = plain()
    wanted = model.evaluate(X[:18], Y[:18], 9, 0, WEIGHTS[:18], return_dict=True)
    seen: list[int] = []
    told = keras.callbacks.LambdaCallback()
    told.on_test_batch_end = lambda batch, logs=None: seen.append(batch)
    part = {"batch_size": 9, "steps": 2}
    found = trainer.evaluate(
        model, X, Y, sample_weight=WEIGHTS, callbacks=[told], return_dict=True, **part
    )
    assert found == pytest.approx(wanted, rel=1e-5)
    assert seen == [0, 1]
    outputs = trainer.predict(model, X, **part)
    np.testing.assert_allclose(outputs, model.predict(X[:18], verbose=0), atol=1e-6)


def test_a_file_says_where_the_run_is(tmp_path: Path) -> None:
    run, file = tmp_path / "run", tmp_path / "run.yaml"
    file.write_text(f"run: {{dir: {run}}}\ntrain: {{seed: 7}}\n")
    config = trainer.setup(config=str(file)).job.config
    assert (config.run.dir, config.train.seed) == (str(run), 7)
    other = tmp_path / "other"
    session = trainer.setup(str(other), config=str(file), overrides=["train.seed=8"])
    assert (session.job.config.run.dir, session.job.config.train.seed) == (str(other), 8)
