"""A storage to look at: what is written lies in another one, and it stays as it is."""

import heapq
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from trainer.errors import ObjectNotFoundError
from trainer.storage.base import Entry, PassOver, Storage, pass_over
from trainer.storage.local import LocalStorage


class Overlay:
    """`Storage` that reads from `above`, else from `below`, and writes and deletes above alone.

    url: that of `above`, because whoever takes it for a folder may write there.
    """

    def __init__(self, below: Storage, above: Storage) -> None:
        self.url = above.url
        self._below = below
        self._above = above
        self._deleted: set[str] = set()  # of those below

    def folders(self) -> Sequence[str]:
        """Those of both."""
        return sorted({*self._above.folders(), *self._below.folders()})

    def list(self, prefix: str = "", *, pass_over: PassOver = pass_over) -> Iterator[Entry]:
        """Objects of both, ordered by path."""
        own = {entry.path: entry for entry in self._above.list(prefix, pass_over=pass_over)}
        theirs = (
            entry
            for entry in self._below.list(prefix, pass_over=pass_over)
            if entry.path not in own and entry.path not in self._deleted
        )
        return heapq.merge(own.values(), theirs, key=lambda entry: entry.path)

    def stat(self, path: str) -> Entry:
        """The entry of one object."""
        return self._holder(path).stat(path)

    def read(self, path: str, *, start: int = 0, length: int | None = None) -> bytes:
        """Bytes [start, start + length), or to the end."""
        return self._holder(path).read(path, start=start, length=length)

    def write(self, path: str, data: bytes | memoryview) -> Entry:
        """Create an object above, or replace it there."""
        return self._above.write(path, data)

    def create(self, path: str, data: bytes | memoryview) -> Entry | None:
        """Create an object above only if the path is free in both."""
        return None if self._version(path) else self._above.create(path, data)

    def replace(self, path: str, data: bytes | memoryview, *, version: str) -> Entry | None:
        """Replace an object while it is of `version`; that below stays, and is not seen."""
        return self.write(path, data) if self._version(path) == version else None

    def check_writable(self, path: str) -> None:
        """Of the one above."""
        self._above.check_writable(path)

    def delete(self, path: str) -> None:
        """Remove an object above; one below is not seen any more."""
        self._above.delete(path)
        self._deleted.add(path)

    def remove_temporaries(self, *, older_than_seconds: float) -> int:
        """Those above."""
        return self._above.remove_temporaries(older_than_seconds=older_than_seconds)

    def _holder(self, path: str) -> Storage:
        try:
            self._above.stat(path)
        except ObjectNotFoundError:
            return self._above if path in self._deleted else self._below
        return self._above

    def _version(self, path: str) -> str | None:
        try:
            return self.stat(path).version
        except ObjectNotFoundError:
            return None


def overlaid(open: Callable[..., Storage], url: str, folder: Path) -> Callable[..., Storage]:
    """`open`, but what is written at `url` and below it goes into the local `folder`."""
    root = url.rstrip("/")

    def opened(place: str, **options: Any) -> Storage:
        storage, name = open(place, **options), place.rstrip("/")
        if name != root and not name.startswith(f"{root}/"):
            return storage
        return Overlay(storage, LocalStorage(folder / name[len(root) :].strip("/")))

    return opened
