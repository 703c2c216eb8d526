"""Byte ranges of a data set's files, checked by who reads them and kept on a local disk."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from trainer.data.disk_cache import DiskCache
from trainer.errors import DataError, ObjectNotFoundError

Checked = TypeVar("Checked")


@dataclass(frozen=True)
class Piece:
    """Bytes [start, start + length) of a file; `crc32c` is the whole file's."""

    file: str
    crc32c: str
    start: int
    length: int


class Files(Protocol):
    """What a `trainer.storage.Storage` does, and TensorFlow's own reader as well."""

    @property
    def url(self) -> str:
        """The folder or prefix that paths are relative to."""
        ...

    def read(self, path: str, *, start: int, length: int) -> bytes:
        """Bytes [start, start + length), fewer where the file ends before."""
        ...


@dataclass(frozen=True)
class Pieces:
    """The data set in `storage`; `content_hash` is its manifest's."""

    storage: Files
    content_hash: str = ""
    disk: DiskCache | None = None

    def read(self, piece: Piece, check: Callable[[bytes], tuple[Checked, bool]]) -> Checked:
        """What `check` makes of the bytes; it also tells whether they are undamaged.

        Damage on the way is not damage of the file: damaged bytes are read once more, and never
        kept.

        Raises:
            DataError: the file is missing.
            StorageError: the storage refused.
        """
        name = hashlib.sha256(f"{self.content_hash} {piece}".encode()).hexdigest()
        if self.disk is not None and (kept := self.disk.get(name)) is not None:
            found, is_good = check(kept)
            if is_good:
                return found
        data = self._download(piece)
        found, is_good = check(data)
        if not is_good:
            data = self._download(piece)
            found, is_good = check(data)
        if is_good and self.disk is not None:
            self.disk.put(name, data)
        return found

    def _download(self, piece: Piece) -> bytes:
        try:
            return self.storage.read(piece.file, start=piece.start, length=piece.length)
        except ObjectNotFoundError:
            raise DataError(
                f"{piece.file} is missing in {self.storage.url}: run 'trainer data prepare' again"
            ) from None
