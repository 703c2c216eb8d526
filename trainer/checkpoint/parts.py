"""A checkpoint's parts, the files of its arrays: written, read and verified a few at a time.

No TensorFlow here.
"""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
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

PART_BYTES = 64 << 20
NUM_THREADS = 4

# A part is larger than PART_BYTES when one array is: such parts are in memory one at a time.
_large = threading.Lock()


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


def in_parallel(tasks: Sequence[Callable[[], Any]]) -> list[Any]:
    """What the tasks return, in their order, from NUM_THREADS threads; the caller's is one.

    After the first error no task begins any more. It is raised when those under way have ended.
    """
    waiting = deque(enumerate(tasks))
    results: dict[int, Any] = {}
    errors: list[BaseException] = []

    def work() -> None:
        while waiting and not errors:
            try:
                number, task = waiting.popleft()
            except IndexError:
                return
            try:
                results[number] = task()
            except BaseException as error:
                errors.append(error)

    # Daemons, which an executor's are not: the process may end before a store that does not answer.
    threads = [
        threading.Thread(target=work, name="parts", daemon=True)
        for _ in range(min(NUM_THREADS, len(tasks)) - 1)
    ]
    for thread in threads:
        thread.start()
    work()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return [results[number] for number in range(len(tasks))]


def _write(storage: Storage, prefix: str, number: int, arrays: Arrays) -> PartEntry:
    file = f"part-{number:05d}.safetensors"
    with _turn(sum(array.nbytes for array in arrays.values())):
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
    with _turn(sum(entry.num_bytes for entry in entries)):
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


def _turn(num_bytes: int) -> AbstractContextManager[Any]:
    return _large if num_bytes > PART_BYTES else nullcontext()
