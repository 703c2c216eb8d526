"""What `trainer.fit` cannot keep its promises for, and how it is said."""

from pathlib import Path
from typing import Any

import keras
import pytest
import tensorflow as tf

import trainer
from tests.small_script import WEIGHTS, X, Y, generator, plain, shuffled
from trainer.errors import ConfigError, DataError
from trainer.script.session import Ended

pytestmark = pytest.mark.usefixtures("given_back")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ({"x": generator()}, "a generator, whose length nobody knows"),
        ({"x": shuffled().repeat()}, "has no end: give its steps"),
        ({"x": shuffled(), "y": Y}, "y is not used beside a"),
        ({"x": shuffled(), "batch_size": 3}, "batch_size is not used beside a"),
        ({"x": X, "y": Y[:9]}, "its arrays have 9 and 70 records"),
        ({"x": tf.data.Dataset.from_tensor_slices((X, Y))}, "arrays have no and 4 records"),
        ({"x": iter([(X, Y[:9])]), "steps_per_epoch": 1}, "arrays have 9 and 70 records"),
        ({"x": X, "y": Y, "validation_freq": [1, 3]}, r"validation_freq is \[1, 3\]: give a whole"),
        ({"x": X, "y": Y, "batch_size": 16.5}, r"batch_size is 16\.5: give a whole number"),
        ({"x": X, "y": Y, "steps_per_epoch": -1}, "number of its steps is -1: give a whole number"),
        ({"x": X, "y": Y, "class_weight": {0: 1}, "sample_weight": WEIGHTS}, "not both"),
        ({"x": shuffled(), "validation_split": 0.1}, "needs arrays"),
        ({"x": X, "y": Y, "validation_split": 0.999}, "leaves none on one side"),
        ({"x": iter([(X, Y)]), "steps_per_epoch": 2}, "ran out after batch 1"),
        ({"x": 7.5, "y": Y}, "a number where an array"),
        ({"x": None, "y": Y}, "x of trainer.fit is missing"),
    ],
)
def test_what_cannot_be_kept(call: dict[str, Any], message: str, tmp_path: Path) -> None:
    trainer.setup(str(tmp_path))
    model, _ = plain()
    with pytest.raises((ConfigError, DataError), match=message):
        trainer.fit(model, **call)


def test_a_loop_without_end(tmp_path: Path) -> None:
    trainer.setup(str(tmp_path)).ended = [Ended(1, {})] * 100
    model, _ = plain()
    with pytest.raises(ConfigError, match="more than 100 times"):
        trainer.fit(model, X, Y)


def test_what_compile_says_in_vain_is_told(tmp_path: Path, capsys: Any) -> None:
    model, call = plain(epochs=1)
    model.compile(model.optimizer, model.loss, run_eagerly=True, steps_per_execution=4)
    trainer.setup(str(tmp_path))
    trainer.fit(model, X, Y, **call)
    said = capsys.readouterr().out
    assert "compile(run_eagerly=True)" in said
    assert "compile(steps_per_execution=4)" in said


def test_a_model_without_optimizer(tmp_path: Path) -> None:
    trainer.setup(str(tmp_path))
    with pytest.raises(ConfigError, match="optimizer"):
        trainer.fit(keras.Sequential([keras.layers.Dense(2)]), X, Y)


def test_predict_drives_no_callbacks(tmp_path: Path) -> None:
    trainer.setup(str(tmp_path))
    with pytest.raises(ConfigError, match="drives no callbacks: leave them out"):
        trainer.predict(plain()[0], X, callbacks=[keras.callbacks.TerminateOnNaN()])
