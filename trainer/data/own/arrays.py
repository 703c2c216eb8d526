"""Arrays of an .npz file: x and y, or x_train, y_train, x_test, y_test as Keras calls them."""

import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import IO, Any

import numpy as np

from trainer.data.own.columns import Column
from trainer.data.own.rows import Row, open_stored, row
from trainer.errors import ConfigError, DataError
from trainer.storage.base import Storage

_SPLITS = ("train", "validation", "val", "test")
_MAGIC = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


@dataclass(frozen=True)
class _Array:
    """One array of the file: where it is, and its shape and dtype."""

    member: str
    column: str
    split: str | None
    shape: tuple[int, ...]
    dtype: np.dtype[Any]


@dataclass(frozen=True)
class NpzFile:
    """A row for each index of arrays of equal lengths, which are read from front to back.

    label: the column whose integers or texts are classes, be they of shape (n,) or, as Keras
    gives those of CIFAR-10, (n, 1).
    """

    storage: Storage
    file: str
    name: str
    is_typed: bool = True
    label: str | None = None

    def columns(self) -> dict[str, Column | None]:
        """Numbers, vectors of them, and images: integers of 8 bits by rows, columns, channels."""
        return {array.column: self._column(array) for array in self._arrays()}

    def rows(self) -> Iterator[Row]:
        """Split by split, in their order."""
        arrays = self._arrays()
        for split in dict.fromkeys(array.split for array in arrays):
            yield from self._rows_of([array for array in arrays if array.split == split], split)

    def _rows_of(self, arrays: list[_Array], split: str | None) -> Iterator[Row]:
        with ExitStack() as stack:
            archive = stack.enter_context(self._open())
            opened = [stack.enter_context(archive.open(array.member)) for array in arrays]
            for member in opened:
                _header(member)
            where = f"{self.file}, {split or 'row'}"
            for number in range(arrays[0].shape[0]):
                try:
                    values = {
                        array.column: _next(member, array)
                        for array, member in zip(arrays, opened, strict=True)
                    }
                except (zipfile.BadZipFile, zlib.error, ValueError) as error:
                    raise DataError(f"{where} {number} cannot be read: {error}") from None
                yield row(f"{where} {number}", values, split)

    def _column(self, array: _Array) -> Column | None:
        shape, kind = array.shape[1:], array.dtype.kind
        if kind not in "biufU" or (shape and kind == "U"):
            raise ConfigError(
                f"{self.file}: array '{array.member}' is of {array.dtype}: save numbers and texts"
            )
        if array.dtype == np.uint8 and (len(shape) == 2 or shape[2:] in ((1,), (3,), (4,))):
            return Column(array.column, "image", (*shape, 1)[:3])
        if not shape:
            return None
        return Column(array.column, "number" if kind == "f" else "integer", shape)

    def _arrays(self) -> list[_Array]:
        with self._open() as archive:
            found = [_read_array(archive, member) for member in archive.namelist()]
        arrays = [_flat(array) if array.column == self.label else array for array in found]
        for split in {array.split for array in arrays}:
            own = [array for array in arrays if array.split == split]
            if len({array.shape[:1] for array in own}) != 1 or not own[0].shape:
                shapes = ", ".join(f"{array.member} {array.shape}" for array in own)
                raise DataError(f"{self.file}: arrays must be equally long, not {shapes}")
            if {array.column for array in own} != {array.column for array in arrays}:
                raise DataError(f"{self.file}: split '{split}' lacks arrays that others have")
        if not arrays:
            raise DataError(f"{self.file} holds no arrays")
        return arrays

    def _open(self) -> zipfile.ZipFile:
        try:
            return zipfile.ZipFile(open_stored(self.storage, self.file))
        except zipfile.BadZipFile as error:
            raise DataError(f"{self.file} is no .npz file, or damaged: {error}") from None


def _read_array(archive: zipfile.ZipFile, member: str) -> _Array:
    with archive.open(member) as opened:
        shape, in_columns, dtype = _header(opened)
    if in_columns and len(shape) > 1:
        raise DataError(f"array '{member}' is stored by columns: save np.ascontiguousarray of it")
    name = member.removesuffix(".npy")
    column, _, split = name.rpartition("_")
    if not column or split not in _SPLITS:
        return _Array(member, name, None, shape, dtype)
    return _Array(member, column, split, shape, dtype)


def _flat(array: _Array) -> _Array:
    is_column = array.shape[1:] == (1,) and array.dtype.kind in "biuU"
    return replace(array, shape=array.shape[:1]) if is_column else array


def _header(opened: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    try:
        version = np.lib.format.read_magic(opened)
    except ValueError as error:
        raise DataError(f"'{opened.name}' is no array: {error}") from None
    if version not in _MAGIC:
        raise DataError(f"arrays of format {version} cannot be read: save them by np.savez")
    return _MAGIC[version](opened)


def _next(member: IO[bytes], array: _Array) -> Any:
    shape = array.shape[1:]
    size = array.dtype.itemsize * int(np.prod(shape, dtype=int))
    value = np.frombuffer(member.read(size), array.dtype).reshape(shape)
    return value if shape else value.item()
