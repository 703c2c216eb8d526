"""What a checkpoint or a data set needs from storage, and no more.

A storage is rooted at a folder or a bucket prefix; every path is relative to that root and
uses forward slashes. Implementations are chosen by URL in `trainer.storage.open_storage`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Entry:
    """One stored object: its path, size in bytes and time of last change (seconds, Unix)."""

    path: str
    size: int
    updated: float


class Storage(Protocol):
    """Objects under one root. Writes are atomic and durable when the call returns.

    Every method raises `StorageError` when the store refuses, and `read` and `stat` raise
    `ObjectNotFoundError` for an absent path.
    """

    url: str

    def list(self, prefix: str = "") -> Iterator[Entry]:
        """Objects whose path starts with the folder `prefix`, ordered by path."""
        ...

    def stat(self, path: str) -> Entry:
        """The entry of one object."""
        ...

    def read(self, path: str, *, start: int = 0, length: int | None = None) -> bytes:
        """Bytes [start, start + length), or to the end."""
        ...

    def write(self, path: str, data: bytes | memoryview) -> None:
        """Create or replace an object."""
        ...

    def create(self, path: str, data: bytes | memoryview) -> bool:
        """Create an object only if the path is free; False when it was taken."""
        ...

    def check_writable(self, path: str) -> None:
        """Raise what `write` would raise, as far as that can be known without writing."""
        ...

    def delete(self, path: str) -> None:
        """Remove an object; an absent one is fine."""
        ...

    def remove_temporaries(self, *, older_than_seconds: float) -> int:
        """Remove what interrupted writes left behind and `list` never shows; returns how many."""
        ...
