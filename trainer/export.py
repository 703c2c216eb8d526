"""The trained model as files for others: `.keras` and SavedModel, re-loaded and compared.

The files are made in a local folder and checked there, and only then moved to where they
belong.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from trainer.errors import TrainerError
from trainer.models.train_step import TrainStepModel
from trainer.storage import Storage

KERAS_FILE = "model.keras"
SAVED_MODEL_DIR = "saved_model"


def export_model(model: Any, to: Storage, formats: Sequence[str], sample: Any) -> list[str]:
    """Write `model` in each format to a storage; returns the files' URLs.

    `sample` is a batch of inputs, [n, ...]: what the re-loaded files make of it must agree
    with the model to 1e-5. Raises TrainerError when it does not, or the model cannot be saved.
    """
    with tempfile.TemporaryDirectory(prefix="trainer-export-") as folder:
        expected = model(sample, training=False)
        model = _without_training(model)
        written = []
        for name in formats:
            path = Path(folder) / (KERAS_FILE if name == "keras" else SAVED_MODEL_DIR)
            outputs = _save_and_load(model, path, sample)
            _check_equal(expected, outputs, path.name)
            written.append(f"{to.url}/{path.name}")
        _move(Path(folder), to)
    return written


def _without_training(model: Any) -> Any:
    """A functional model of ours as plain Keras, which loads where the trainer is not installed."""
    if type(model) is TrainStepModel and getattr(model, "inputs", None):
        return keras.Model(model.input, model.output, name=model.name)
    return model


def _save_and_load(model: Any, path: Path, sample: Any) -> Any:
    try:
        if path.name == KERAS_FILE:
            model.save(path)
            # Safe mode: a file from anywhere must not bring code along.
            loaded = keras.saving.load_model(path, safe_mode=True, compile=False)
            return loaded(sample, training=False)
        model.export(str(path), format="tf_saved_model", verbose=False)
        loaded = tf.saved_model.load(str(path))
        return loaded.serve(sample)
    except (ValueError, TypeError, NotImplementedError) as error:
        raise TrainerError(
            f"the model cannot be written as {path.name}: {str(error)[:200]}; classes of your own "
            "need get_config and keras.saving.register_keras_serializable, or choose other "
            "export.formats"
        ) from error


def _check_equal(expected: Any, outputs: Any, name: str) -> None:
    for wanted, got in zip(tf.nest.flatten(expected), tf.nest.flatten(outputs), strict=True):
        difference = float(np.max(np.abs(np.asarray(wanted) - np.asarray(got)), initial=0.0))
        if not difference <= 1e-5 * max(1.0, float(np.max(np.abs(wanted), initial=0.0))):
            raise TrainerError(
                f"{name} gives other outputs than the model it was written from "
                f"(by {difference:g}): it was not kept"
            )


def _move(folder: Path, to: Storage) -> None:
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        to.write(file.relative_to(folder).as_posix(), file.read_bytes())
