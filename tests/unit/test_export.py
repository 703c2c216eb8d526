"""Exported models: their inputs, and whether their outputs are those of the model before."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from trainer.errors import TrainerError
from trainer.export import _is_equal, _save_and_load, export_model
from trainer.storage import open_storage


@pytest.mark.parametrize(
    ("wanted", "got", "is_equal"),
    [
        ([1.0, float("-inf")], [1.0, float("-inf")], True),
        ([1.0, float("nan")], [1.0, float("nan")], True),
        ([1.0, 2.0], [1.0, float("inf")], False),
        ([1e6], [1e6 + 1.0], True),
        ([1.0], [1.001], False),
        ([True, False], [True, False], True),
        ([True, False], [True, True], False),
        ([b"a"], [b"b"], False),
    ],
)
def test_an_exported_models_outputs_are_compared(wanted: Any, got: Any, is_equal: bool) -> None:
    assert _is_equal(np.asarray(wanted), np.asarray(got)) == is_equal


WORDS = {"title": np.array([[1, 2]], np.int32), "tags": np.array([[3]], np.int32)}


class ByName(keras.Model):
    """Without a graph of layers: nobody but a caller knows that its inputs are integers."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = keras.layers.Embedding(5, 2)

    def call(self, inputs: dict[str, Any]) -> Any:
        return self.embed(inputs["title"]), self.embed(inputs["tags"])


def by_position() -> Any:
    inputs = [keras.Input((2,), dtype="int32"), keras.Input((1,), dtype="int32")]
    embed = keras.layers.Embedding(5, 2)
    return keras.Model(inputs, [embed(x) for x in inputs])


def in_sequence() -> Any:
    return keras.Sequential([keras.Input((2,), dtype="int32"), keras.layers.Embedding(5, 2)])


@pytest.mark.parametrize(
    ("make", "sample"),
    [
        (ByName, WORDS),
        (by_position, tuple(WORDS.values())),
        (in_sequence, WORDS["title"]),
    ],
)
def test_inputs_of_integers_are_exported_as_they_are(
    make: Any, sample: Any, tmp_path: Path
) -> None:
    model = make()
    model(sample)
    assert export_model(model, open_storage(str(tmp_path)), ["saved_model"], sample)
    serve = tf.saved_model.load(str(tmp_path / "saved_model")).signatures["serving_default"]
    specs = serve.structured_input_signature[1].values()
    assert {(spec.shape[0], spec.dtype) for spec in specs} == {(None, tf.int32)}


def test_a_file_that_cannot_be_written_is_no_fault_of_classes(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    with pytest.raises(TrainerError, match=r"cannot be written as model\.keras: ") as raised:
        _save_and_load(model, tmp_path / "file" / "model.keras", np.ones([1, 1], np.float32))
    assert "get_config" not in str(raised.value)
