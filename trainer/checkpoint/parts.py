"""A checkpoint's parts, the files of its arrays: written, read and verified a few at a time.

No TensorFlow here.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import safetensors.numpy
from numpy.typing import NDArray

from trainer.checkpoint.format import (
    ArrayEntry,
    Arrays,
    Manifest,
    PartEntry,
    array_entries,
    crc32c,
    grouped,
    restored,
    state_sha256,
    storable,
)
from trainer.errors import CheckpointError, ObjectNotFoundError, StorageError
from trainer.storage import Storage
from trainer.storage.parallel import alone_if, in_parallel

# A part is larger when one array is.
PART_BYTES = 64 << 20


class DamagedError(CheckpointError):
    """One checkpoint cannot be trusted: another one may."""


def write_parts(
    storage: Storage, prefix: str, arrays: Arrays
) -> tuple[tuple[ArrayEntry, ...], tuple[PartEntry, ...], str]:
    """Write the arrays under `prefix`, verified once this returns; what the manifest says of them.

    That is entries of arrays and of parts, and the sha256, made while parts are under way.

    Raises StorageError; nothing is being written any more then.
    """
    groups = grouped(arrays, PART_BYTES)
    writes = [
        partial(_write, storage, prefix, number, {name: arrays[name] for name in names})
        for number, names in enumerate(groups)
    ]
    sha256, *parts = in_parallel([partial(state_sha256, arrays), *writes])
    return array_entries(groups, arrays), tuple(parts), sha256


def read_parts(storage: Storage, folder: str, manifest: Manifest) -> dict[str, NDArray[Any]]:
    """All arrays of a checkpoint; raises DamagedError, StorageError."""
    entries: list[list[ArrayEntry]] = [[] for _ in manifest.parts]
    for entry in manifest.arrays:
        entries[entry.part].append(entry)
    where = f"checkpoint {folder} in {storage.url} is damaged"
    reads = [
        partial(_read, storage, f"{folder}/{manifest.writer}", part, found, where)
        for part, found in zip(manifest.parts, entries, strict=True)
    ]
    return {name: array for arrays in in_parallel(reads) for name, array in arrays.items()}


def _write(storage: Storage, prefix: str, number: int, arrays: Arrays) -> PartEntry:
    file = f"part-{number:05d}.safetensors"
    with alone_if(sum(array.nbytes for array in arrays.values()) > PART_BYTES):
        data = safetensors.numpy.save({name: storable(array) for name, array in arrays.items()})
        entry = PartEntry(file=file, size=len(data), crc32c=crc32c(data))
        stored = storage.write(f"{prefix}/{file}", data).crc32c
        del data
        if (stored or crc32c(storage.read(f"{prefix}/{file}"))) != entry.crc32c:
            raise StorageError(f"{prefix}/{file} in {storage.url} reads back differently")
    return entry


def _read(
    storage: Storage, prefix: str, part: PartEntry, entries: Sequence[ArrayEntry], where: str
) -> dict[str, NDArray[Any]]:
    path, where = f"{prefix}/{part.file}", f"{where}: {part.file}"
    with alone_if(sum(entry.num_bytes for entry in entries) > PART_BYTES):
        try:
            size = storage.stat(path).size
            if size != part.size:
                raise DamagedError(f"{where} has {size} bytes instead of {part.size}")
            data = storage.read(path)
        except ObjectNotFoundError as error:
            raise DamagedError(f"{where} is missing") from error
        if crc32c(data) != part.crc32c:
            # Once more: damage on the way is not damage of the object.
            data = storage.read(path)
            if crc32c(data) != part.crc32c:
                raise DamagedError(f"{where} differs from its checksum")
        try:
            stored = safetensors.numpy.load(data)
            if {entry.name for entry in entries} != stored.keys():
                raise ValueError("holds other arrays than the manifest says")
            return {entry.name: restored(stored[entry.name], entry) for entry in entries}
        except (safetensors.SafetensorError, ValueError) as error:
            raise DamagedError(f"{where}: {error}") from error
