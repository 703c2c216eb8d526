"""What all sources give: rows, each with its place, and why one cannot be used."""

import hashlib
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from trainer.data.own.columns import Column
from trainer.storage.base import Storage

_BUFFER_BYTES = 4 << 20


@dataclass(frozen=True)
class Row:
    """A record to be: its values by column, and where it stands, for people.

    `identity` is what tells it from others, whatever else is in the source; `split` is the one
    that the source itself puts it into; `reason` says why it cannot be used, and `num_lines`
    how many lines are lost with it then; `size` is about what it takes, in bytes.
    """

    place: str
    values: Mapping[str, Any] = field(default_factory=dict)
    identity: bytes = b""
    split: str | None = None
    reason: str | None = None
    num_lines: int = 1
    size: int = 0


class Source(Protocol):
    """Something that can be read as rows, twice with the same result."""

    @property
    def name(self) -> str:
        """What the data set is called."""
        ...

    @property
    def is_typed(self) -> bool:
        """Whether texts are texts; else those of a table may be numbers."""
        ...

    def columns(self) -> dict[str, Column | None]:
        """The columns by name; None where only the values can tell what one holds."""
        ...

    def rows(self) -> Iterator[Row]:
        """All of them, a few at a time in memory."""
        ...


def row(place: str, values: Mapping[str, Any], split: str | None = None) -> Row:
    """A row that is told from others by its values."""
    arrays = {name: v for name, v in values.items() if isinstance(v, np.ndarray)}
    others = {name: v for name, v in values.items() if name not in arrays}
    data = json.dumps(others, default=str, sort_keys=True).encode()
    digest, size = hashlib.sha256(data), len(data)
    for _, array in sorted(arrays.items()):
        digest.update(array.tobytes())
        size += array.nbytes
    return Row(place, values, digest.digest(), split, size=size)


class _StoredFile(io.RawIOBase):
    """A stored object as a file to read, by ranges."""

    def __init__(self, storage: Storage, path: str) -> None:
        self._storage, self._path = storage, path
        self._size = storage.stat(path).size
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(0, start + offset)
        return self._at

    def readinto(self, buffer: Any) -> int:
        if self._at >= self._size:
            return 0
        data = self._storage.read(self._path, start=self._at, length=len(buffer))
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)


def open_stored(storage: Storage, path: str) -> io.BufferedReader:
    """A stored object as a file, read some MB at a time; ObjectNotFoundError if it is absent."""
    return io.BufferedReader(_StoredFile(storage, path), _BUFFER_BYTES)
