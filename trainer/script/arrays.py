"""Arrays as Keras' `fit` takes them: numpy's, of PyTorch, of pandas, lists of numbers."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import tensorflow as tf
from google_crc32c import extend

from trainer.errors import ConfigError


def as_arrays(tree: Any) -> Any:
    """numpy arrays by dicts and tuples. A list of arrays is a tuple of them, which tf.data would
    make one tensor of; a list of numbers is an array.
    """
    if isinstance(tree, dict):
        return {name: as_arrays(value) for name, value in tree.items()}
    if isinstance(tree, list | tuple) and _holds_arrays(tree):
        return tuple(map(as_arrays, tree))
    return as_array(tree)


def _holds_arrays(tree: Any) -> bool:
    if isinstance(tree, list | tuple):
        return bool(tree) and all(map(_holds_arrays, tree))
    return isinstance(tree, dict) or hasattr(tree, "__array__")


def as_array(value: Any) -> Any:
    """numpy [n, ...] as Keras' fit takes it: floats of 64 bits become those of 32."""
    if hasattr(value, "detach"):  # of PyTorch
        value = value.detach().cpu()
    if hasattr(value, "to_numpy"):  # of pandas
        value = value.to_numpy()
    array = np.asarray(value)
    if array.dtype.kind == "U":
        return np.char.encode(array, "utf-8").astype(object)
    return array.astype(np.float32) if array.dtype == np.float64 else array


def told(counts: Iterable[int]) -> str:
    """Different numbers of records, for people."""
    return " and ".join(str(count or "no") for count in sorted(counts))


def num_rows(batch: Any) -> int:
    """Records of a batch."""
    return len(tf.nest.flatten(batch)[0])


def split_arrays(parts: tuple[Any, Any, Any], share: float, code: str) -> tuple[Any, Any]:
    """(x, y, sample_weight) twice: all but the last `share` of the records, and those."""
    if not 0 < share < 1:
        raise ConfigError(f"validation_split is {share}: a share of the records is in (0, 1)")
    if not is_arrays(parts[0]):
        raise ConfigError(
            f"validation_split needs arrays, and {code} is none: give validation_data"
        )
    arrays = [None if part is None else as_arrays(part) for part in parts]
    count = num_rows(arrays[0])
    at = int(count * (1 - share))
    if at in (0, count):
        raise ConfigError(f"validation_split {share} of {count} records leaves none on one side")

    def cut(part: slice) -> Any:
        return [
            None if tree is None else tf.nest.map_structure(lambda array: array[part], tree)
            for tree in arrays
        ]

    return cut(slice(0, at)), cut(slice(at, None))


def is_arrays(x: Any) -> bool:
    """Whether it is records, and not what makes batches of them."""
    if isinstance(x, dict | list | tuple):
        return bool(x) and all(map(is_arrays, x.values() if isinstance(x, dict) else x))
    return hasattr(x, "__array__") or isinstance(x, int | float | str)


def checksum(arrays: list[Any]) -> int:
    """CRC32C over shapes, types and bytes."""
    crc = 0
    for array in arrays:
        crc = extend(crc, f"{array.dtype} {array.shape}".encode())
        data = b"\0".join(array.ravel().tolist()) if array.dtype == object else array
        crc = extend(crc, data if isinstance(data, bytes) else np.ascontiguousarray(data).tobytes())
    return int(crc)
