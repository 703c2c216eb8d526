"""The model with its own steps, compiled and equipped."""

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.small_training import compiled, distance, equipped
from trainer.models.train_step import TrainStepModel

HERE = tf.distribute.get_strategy()
RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(12, 4)).astype(np.float32)
Y = RANDOM.integers(0, 3, 12)
WEIGHT = RANDOM.uniform(size=12).astype(np.float32)


@pytest.mark.parametrize(
    ("make", "weight"),
    [
        pytest.param(compiled, None, id="compiled-plain", marks=pytest.mark.long),
        pytest.param(compiled, WEIGHT, id="compiled-weighted"),
        pytest.param(equipped, None, id="equipped-plain"),
        pytest.param(equipped, WEIGHT, id="equipped-weighted", marks=pytest.mark.long),
    ],
)
def test_a_step_is_that_of_keras(make: Any, weight: Any) -> None:
    ours, keras_model = make(HERE, penalty=0.1), compiled(HERE, cls=keras.Model, penalty=0.1)
    data = (X, Y) if weight is None else (X, Y, weight)
    logs = [model.train_step(data) for model in (ours, keras_model)]
    assert distance(ours, keras_model) < 1e-6
    assert float(logs[0]["loss"]) == pytest.approx(float(logs[1]["loss"]), abs=1e-6)


@pytest.mark.parametrize("make", [compiled, equipped], ids=["compiled", "equipped"])
def test_logs_are_loss_and_metrics(make: Any) -> None:
    assert make(HERE).test_step((X, Y)).keys() == {"loss", "accuracy"}


@pytest.mark.parametrize("make", [compiled, equipped], ids=["compiled", "equipped"])
def test_a_test_step_changes_no_weight(make: Any) -> None:
    model = make(HERE, dropout=0.5, normalize=True)
    before = [np.asarray(v).copy() for v in model.variables]
    model.test_step((X, Y))
    assert all(np.array_equal(a, b) for a, b in zip(before, model.variables, strict=True))


@pytest.mark.parametrize("make", [compiled, equipped], ids=["compiled", "equipped"])
def test_the_loss_is_the_mean_over_records_of_all_steps(make: Any) -> None:
    model = make(HERE)
    for part in (slice(0, 9), slice(9, 12)):
        logs = model.test_step((X[part], Y[part]))
    wanted = keras.losses.sparse_categorical_crossentropy(Y, model(X, training=False))
    assert float(logs["loss"]) == pytest.approx(float(np.mean(wanted)), abs=1e-6)


# Keras' convert_to_numpy, as it saves a model, under numpy 2.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_a_model_comes_back_from_its_file(tmp_path: Any) -> None:
    model = compiled(HERE)
    model.train_step((X, Y))
    model.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras", safe_mode=True)
    assert type(loaded) is TrainStepModel
    assert np.array_equal(loaded(X), model(X))
