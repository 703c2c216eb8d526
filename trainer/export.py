"""The trained model as files for others: `.keras` and SavedModel, re-loaded and compared.

The files are made in a folder beside their place, or a temporary one, and checked there, and only
then moved.
"""

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from trainer.backends import this_backend
from trainer.config.models import ExportConfig
from trainer.errors import ConfigError, TrainerError
from trainer.models.train_step import TrainStepModel
from trainer.storage import Storage, is_remote

KERAS_FILE = "model.keras"
SAVED_MODEL_DIR = "saved_model"
# No storage lists or removes it: it begins as their own temporary files do.
_UNFINISHED = ".tmp-export"
_WAYS_OUT = (
    "classes of your own need get_config and keras.saving.register_keras_serializable, or choose "
    "other export.formats"
)


def writable(formats: Sequence[str], log: Any = None) -> Sequence[str]:
    """Those that Keras can write on this backend. Others of the default are left out, and told.

    Raises ConfigError when somebody has asked for others.
    """
    backend = keras.backend.backend()
    missing = [name for name in formats if name not in this_backend().FORMATS]
    if missing and tuple(formats) != ExportConfig().formats:
        raise ConfigError(
            f"export format {missing[0]} cannot be written with KERAS_BACKEND={backend}: leave it "
            "out, or export the trained run with KERAS_BACKEND=tensorflow"
        )
    if missing and log is not None:
        log.info("export", left_out=missing, backend=backend)
    return [name for name in formats if name not in missing]


def check_export(model: Any, formats: Sequence[str]) -> None:
    """ConfigError when it is clear, before any training, that `model` cannot be exported.

    No file is written and no layer is made anew: that would use up randomness.
    """
    if "keras" not in writable(formats):
        return
    try:
        foreign = list(_foreign(keras.saving.serialize_keras_object(model)))
    except Exception as error:
        raise ConfigError(
            f"the model cannot be exported as {KERAS_FILE}: {str(error)[:200]}; {_WAYS_OUT}"
        ) from error
    if foreign:
        raise ConfigError(
            f"the model cannot be exported as {KERAS_FILE}: nobody could load {foreign[0]}; "
            f"{_WAYS_OUT}"
        )


def _foreign(config: Any) -> Iterator[str]:
    """What a serialized model refers to that loading in safe mode would not find."""
    if isinstance(config, list | tuple):
        for item in config:
            yield from _foreign(item)
    if not isinstance(config, dict):
        return
    name, module = config.get("class_name"), str(config.get("module"))
    registered = config.get("registered_name")
    is_own = registered and name != "function" and module.partition(".")[0] != "keras"
    if name == "__lambda__":
        yield "a lambda"
    elif is_own and keras.saving.get_registered_object(registered) is None:
        yield f"class {name} of {module}"
    for key, value in config.items():
        # What a model was compiled with is not loaded.
        if key != "compile_config":
            yield from _foreign(value)


def export_model(model: Any, to: Storage, formats: Sequence[str], sample: Any) -> list[str]:
    """Write `model` in each format to a storage; returns the files' URLs.

    `formats` are writable ones. `sample` is a batch of inputs, [n, ...]: what the re-loaded files
    make of it must agree with the model to 1e-5. Raises TrainerError when it does not, or the model
    cannot be saved.
    """
    if not formats:
        return []
    sample = this_backend().as_data(sample)
    with _unfinished(to.url) as folder:
        expected = model(sample, training=False)
        model = _without_training(model)
        written = []
        for name in formats:
            path = folder / (KERAS_FILE if name == "keras" else SAVED_MODEL_DIR)
            outputs = _save_and_load(model, path, sample)
            _check_equal(expected, outputs, path.name)
            written.append(f"{to.url}/{path.name}")
        _move(folder, to)
    return written


@contextmanager
def _unfinished(url: str) -> Iterator[Path]:
    """A folder for one export, in its place if that is one; removes that of one that was killed."""
    if is_remote(url):
        with tempfile.TemporaryDirectory(prefix="trainer-export-") as temporary:
            yield Path(temporary)
        return
    folder = Path(url) / _UNFINISHED
    shutil.rmtree(folder, ignore_errors=True)
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise ConfigError(
            f"cannot write a model to {url}: {error.strerror}; trainer export RUN_DIR --to DIR "
            "writes it elsewhere"
        ) from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


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
        has_graph = bool(getattr(model, "inputs", None))
        # Without one, Keras would take all inputs for float32.
        signature = None if has_graph else [tf.nest.map_structure(_spec, sample)]
        model.export(str(path), format="tf_saved_model", verbose=False, input_signature=signature)
        if has_graph and isinstance(sample, tuple) and isinstance(model.input, list):
            sample = list(sample)  # TensorFlow wants the very structure
        loaded = tf.saved_model.load(str(path))
        return loaded.serve(sample)
    except Exception as error:
        # A full disk is not mended by another class.
        hint = "" if isinstance(error, OSError) else f"; {_WAYS_OUT}"
        raise TrainerError(
            f"the model cannot be written as {path.name}: {str(error)[:200]}{hint}"
        ) from error


def _spec(array: Any) -> Any:
    return tf.TensorSpec([None, *array.shape[1:]], array.dtype)


def _check_equal(expected: Any, outputs: Any, name: str) -> None:
    for wanted, got in zip(tf.nest.flatten(expected), tf.nest.flatten(outputs), strict=True):
        if not _is_equal(_array(wanted), _array(got)):
            raise TrainerError(
                f"{name} gives other outputs than the model it was written from: it was not kept"
            )


def _array(output: Any) -> Any:
    # On other backends than TensorFlow, a tensor may have to come from a device, or off a graph.
    return np.asarray(output) if tf.is_tensor(output) else keras.ops.convert_to_numpy(output)


def _is_equal(wanted: Any, got: Any) -> bool:
    """To 1e-5 of the largest number; infinities and NaN are where they were."""
    if wanted.shape != got.shape or wanted.dtype != got.dtype:
        return False
    if wanted.dtype.kind in "OSU":
        return bool(np.array_equal(wanted, got))
    wanted, got = wanted.astype(np.float64), got.astype(np.float64)
    scale = np.max(np.abs(wanted), where=np.isfinite(wanted), initial=1.0)
    return bool(np.allclose(got, wanted, rtol=0, atol=1e-5 * scale, equal_nan=True))


def _move(folder: Path, to: Storage) -> None:
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        to.write(file.relative_to(folder).as_posix(), file.read_bytes())
