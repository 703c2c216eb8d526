"""Storage in memory, storage that fails at a chosen operation, and what a storage holds."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from trainer.errors import ObjectNotFoundError, StorageError
from trainer.storage import LocalStorage, Storage
from trainer.storage.base import Entry, PassOver, pass_over


def paths(storage: Storage, prefix: str = "") -> list[str]:
    """The paths that a storage lists."""
    return [entry.path for entry in storage.list(prefix)]


def files(storage: LocalStorage) -> list[str]:
    """The names of all files in a storage's folder, hidden ones too."""
    return sorted(path.name for path in storage.root.rglob("*") if path.is_file())


@dataclass
class MemoryStorage:
    """Objects in a dictionary; `now` is the time that writes are stamped with."""

    objects: dict[str, bytes] = field(default_factory=dict)
    times: dict[str, float] = field(default_factory=dict)
    versions: dict[str, int] = field(default_factory=dict)
    now: float = 1000.0
    url: str = "memory:"

    def list(self, prefix: str = "", *, pass_over: PassOver = pass_over) -> Iterator[Entry]:
        folder = f"{prefix}/" if prefix else ""
        found = sorted(path for path in self.objects if path.startswith(folder))
        return iter([self.stat(path) for path in found])

    def folders(self) -> Sequence[str]:
        return sorted({path.split("/")[0] for path in self.objects if "/" in path})

    def stat(self, path: str) -> Entry:
        version = str(self.versions.get(path, 0))
        return Entry(path, len(self.read(path)), self.times[path], version)

    def read(self, path: str, *, start: int = 0, length: int | None = None) -> bytes:
        if path not in self.objects:
            raise ObjectNotFoundError(f"no {path} in {self.url}")
        return self.objects[path][start : None if length is None else start + length]

    def write(self, path: str, data: bytes) -> Entry:
        self.objects[path], self.times[path] = data, self.now
        self.versions[path] = self.versions.get(path, 0) + 1
        return self.stat(path)

    def create(self, path: str, data: bytes) -> Entry | None:
        return None if path in self.objects else self.write(path, data)

    def replace(self, path: str, data: bytes, *, version: str) -> Entry | None:
        is_same = path in self.objects and self.stat(path).version == version
        return self.write(path, data) if is_same else None

    def check_writable(self, path: str) -> None:
        """It is."""

    def delete(self, path: str) -> None:
        self.objects.pop(path, None)

    def remove_temporaries(self, *, older_than_seconds: float) -> int:
        return 0


class FailingStorage:
    """Another storage whose operation number `fail_at` (from 0), and all after it, fail.

    With `lost_reply`, that operation still has its effect; only its answer is lost. With `once`,
    those after it succeed.
    """

    def __init__(
        self, inner: Any, fail_at: int, *, lost_reply: bool = False, once: bool = False
    ) -> None:
        self._inner, self._fail_at, self._lost_reply = inner, fail_at, lost_reply
        self._once = once
        self.count = 0
        self.url = inner.url

    def heal(self) -> None:
        """From now on, everything succeeds."""
        self._fail_at = 10**9

    def __getattr__(self, name: str) -> Any:
        operation = getattr(self._inner, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            number, self.count = self.count, self.count + 1
            if number < self._fail_at or (self._once and number > self._fail_at):
                return operation(*args, **kwargs)
            if self._lost_reply and number == self._fail_at:
                operation(*args, **kwargs)
            raise StorageError(f"operation {number}, {name}, failed")

        return call
