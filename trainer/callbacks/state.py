"""What callbacks hold between epochs, saved and put back.

Keras has no API for it, and its own callbacks reset themselves in `on_train_begin`, so state
is put back after that. A callback of a user's offers `get_state() -> dict` and
`set_state(dict)`, of plain JSON values and numpy arrays; one without them is refused unless
it is declared stateless.
"""

import io
import os
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import keras
import numpy as np

from trainer.checkpoint.format import DTYPE_BYTES
from trainer.errors import CheckpointError, ConfigError

# Attributes of Keras' own callbacks that decide what they do next; () means none.
_KERAS_STATE: dict[type, tuple[str, ...]] = {
    keras.callbacks.History: ("history", "epoch"),
    keras.callbacks.EarlyStopping: ("wait", "stopped_epoch", "best", "best_weights", "best_epoch"),
    keras.callbacks.ReduceLROnPlateau: ("wait", "best", "cooldown_counter"),
    keras.callbacks.ModelCheckpoint: (
        "best",
        "_batches_seen_since_last_saving",
        "_last_batch_seen",
    ),
    keras.callbacks.LearningRateScheduler: (),
    keras.callbacks.SwapEMAWeights: ("_ema_weights_in_model",),
    keras.callbacks.TerminateOnNaN: (),
    keras.callbacks.CSVLogger: ("keys",),
    keras.callbacks.TensorBoard: ("_global_train_batch", "_global_test_batch"),
    keras.callbacks.LambdaCallback: (),
}


_EVERY_ATTRIBUTE = vars(keras.callbacks.Callback()).keys()


@runtime_checkable
class HoldsState(Protocol):
    """A callback that can be resumed."""

    def get_state(self) -> dict[str, Any]: ...

    def set_state(self, state: dict[str, Any]) -> None: ...


class CallbackStates:
    """The resumable callbacks of one run, each under the name of its class and its number."""

    def __init__(self, callbacks: Sequence[Any]) -> None:
        self._callbacks: dict[str, Any] = {}
        for callback in callbacks:
            _check(callback)
            name = type(callback).__name__
            number = sum(key.startswith(f"{name}-") for key in self._callbacks)
            self._callbacks[f"{name}-{number}"] = callback

    def capture(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """(JSON-ready states by callback, arrays by `callback/…` name).

        Raises ConfigError for a state of anything else than plain values and arrays.
        """
        arrays: dict[str, Any] = {}
        states = {
            name: _take_arrays(_get(callback, name), f"callback/{name}", arrays)
            for name, callback in self._callbacks.items()
        }
        return {name: state for name, state in states.items() if state}, arrays

    def restore(
        self, states: Mapping[str, Any], arrays: Mapping[str, Any], *, trains: bool = True
    ) -> list[str]:
        """Put states back; returns the callbacks that are new to the run, which start afresh.

        trains: cut off what files have of epochs that come again. Where none comes, rows behind
        are those of a later training.

        Raises CheckpointError when a callback's state cannot be put back.
        """
        for name, state in states.items():
            if name in self._callbacks:
                try:
                    _set(self._callbacks[name], _give_arrays(state, arrays), cuts=trains)
                except (KeyError, TypeError, AttributeError, ValueError) as error:
                    raise CheckpointError(
                        f"state of callback {name} cannot be put back: {error!r}"
                    ) from error
        return [
            name for name, cb in self._callbacks.items() if name not in states and _get(cb, name)
        ]


def _check(callback: Any) -> None:
    if isinstance(callback, keras.callbacks.BackupAndRestore):
        raise ConfigError(
            "callback BackupAndRestore replays epochs: remove it, runs resume without it"
        )
    is_known = isinstance(callback, HoldsState) or _attributes(callback) is not None
    if not is_known and not _holds_nothing(callback):
        name = type(callback).__name__
        raise ConfigError(
            f"callback {name} has no get_state and set_state, so a resumed run would differ: "
            "add them, or declare it with 'stateless: true' (in code: its attribute stateless = "
            "True) if it holds nothing that matters"
        )


def _holds_nothing(callback: Any) -> bool:
    """Whether it says so, or has no attribute but those that every callback of Keras has."""
    return bool(getattr(callback, "stateless", False)) or vars(callback).keys() <= _EVERY_ATTRIBUTE


def _attributes(callback: Any) -> tuple[str, ...] | None:
    # Only the exact class: a subclass may hold more than its parent.
    return _KERAS_STATE.get(type(callback))


def _get(callback: Any, name: str) -> Mapping[str, Any]:
    if isinstance(callback, HoldsState):
        state = callback.get_state()
        if not isinstance(state, Mapping):
            raise ConfigError(
                f"the state of callback {name} is a {type(state).__name__}: its get_state must "
                "give a dictionary"
            )
        return state
    names = _attributes(callback) or ()
    state = {name: getattr(callback, name) for name in names if hasattr(callback, name)}
    file = _open_file(callback)
    return state if file is None else state | {_FILE_BYTES: _size(file)}


def _set(callback: Any, state: dict[str, Any], *, cuts: bool) -> None:
    if isinstance(callback, HoldsState):
        callback.set_state(state)
        return
    for name, value in state.items():
        if name != _FILE_BYTES:
            setattr(callback, name, value)
    file = _open_file(callback)
    if file is not None and _FILE_BYTES in state and cuts:
        file.truncate(min(state[_FILE_BYTES], _size(file)))
        callback.append_header = _size(file) == 0


# Where a CSVLogger's file ended.
_FILE_BYTES = "file_bytes"


def _open_file(callback: Any) -> Any:
    """The local file that a CSVLogger writes; None where nothing is trained."""
    file = getattr(callback, "csv_file", None)
    return file if isinstance(file, io.TextIOBase) and not file.closed else None


def _size(file: Any) -> int:
    file.flush()
    return os.fstat(file.fileno()).st_size


_ARRAY_KEY = "__array__"


def _take_arrays(value: Any, path: str, arrays: dict[str, Any]) -> Any:
    """`value` as JSON, each array replaced by its name and put into `arrays`."""
    if isinstance(value, Mapping):
        return {k: _take_arrays(v, f"{path}/{_part(k, path)}", arrays) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_take_arrays(v, f"{path}/{i}", arrays) for i, v in enumerate(value)]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    array = np.asarray(value)
    if array.dtype.name not in DTYPE_BYTES:
        raise ConfigError(
            f"the state of a callback holds a {type(value).__name__} at {path}: its get_state must "
            "give numbers, texts, lists, dictionaries and numpy arrays"
        )
    if array.ndim == 0 and isinstance(array.item(), bool | int | float):
        return array.item()
    arrays[path] = array.copy()
    return {_ARRAY_KEY: path}


def _part(key: Any, path: str) -> str:
    """A key as a part of an array's name, whose parts stand between slashes."""
    if not isinstance(key, str) or key == _ARRAY_KEY:
        # JSON would give it back as a text.
        raise ConfigError(
            f"the state of a callback holds the key {key!r} at {path}: keys must be texts other "
            f"than {_ARRAY_KEY}"
        )
    return key.replace("~", "~0").replace("/", "~1")


def _give_arrays(value: Any, arrays: Mapping[str, Any]) -> Any:
    if isinstance(value, dict):
        if _ARRAY_KEY in value:
            return arrays[value[_ARRAY_KEY]]
        return {k: _give_arrays(v, arrays) for k, v in value.items()}
    if isinstance(value, list):
        return [_give_arrays(v, arrays) for v in value]
    return value
