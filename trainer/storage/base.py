"""What a checkpoint or a data set needs from storage, and no more.

A storage is rooted at a folder or a bucket prefix; every path is relative to that root and
uses forward slashes. Implementations are chosen by URL in `trainer.storage.open_storage`.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from trainer.errors import ConfigError

Operation = Literal["list", "stat", "read", "write", "create", "delete"]
# Told of every request to a store, repeated ones included: the operation, "ok" or a short name
# of what went wrong (an HTTP status, `timeout`, …), the bytes of data that it moved, and whether it
# repeated one.
OnRequest = Callable[[Operation, str, int, bool], None]


# Told of what a listing leaves out.
PassOver = Callable[[str], object]


def pass_over(path: str) -> None:
    """Nobody else's names are of interest."""


@dataclass(frozen=True)
class Entry:
    """One stored object.

    `updated` is the time of its last change by the store's clock (seconds, Unix), `version`
    differs after each change, and `crc32c`, eight hexadecimal digits, is there where the store
    has checked it.
    """

    path: str
    size: int
    updated: float
    version: str
    crc32c: str | None = None


def check_path(path: str, *, hidden: str | None = None) -> None:
    """ConfigError unless `path` is plain printable names joined by '/'.

    hidden: names that start so are refused, too.
    """
    if not all(is_name(part, hidden=hidden) for part in path.split("/")):
        raise ConfigError(
            f"object path {path!r} is refused: use a relative path of printable names without "
            "'..', '.', empty parts"
            + (
                f", backslashes or names that start with {hidden!r}"
                if hidden
                else " or backslashes"
            )
        )


def is_name(part: str, *, hidden: str | None = None) -> bool:
    """Whether a folder or an object may have this name."""
    is_plain = part.isprintable() and "/" not in part and "\\" not in part
    return is_plain and part not in ("", ".", "..") and not (hidden and part.startswith(hidden))


class Storage(Protocol):
    """Objects under one root. Writes are atomic and durable when the call returns.

    Every method raises `StorageError` when the store refuses or does not answer: a remote one
    `RefusedError` without the right, and `NoBucketError` without a bucket. `read` and `stat` raise
    `ObjectNotFoundError` for an absent path. `url` with "/FOLDER" behind it opens a folder of it.
    """

    url: str

    def list(self, prefix: str = "", *, pass_over: PassOver = pass_over) -> Iterator[Entry]:
        """Objects whose path starts with the folder `prefix`, ordered by path.

        `pass_over` is told of names that no path may have (`is_name`), when they are come by.
        """
        ...

    def folders(self) -> Sequence[str]:
        """Names of the folders right below the root, in order; what they hold is not listed."""
        ...

    def stat(self, path: str) -> Entry:
        """The entry of one object."""
        ...

    def read(self, path: str, *, start: int = 0, length: int | None = None) -> bytes:
        """Bytes [start, start + length), or to the end."""
        ...

    def write(self, path: str, data: bytes | memoryview) -> Entry:
        """Create or replace an object."""
        ...

    def create(self, path: str, data: bytes | memoryview) -> Entry | None:
        """Create an object only if the path is free; None when it was taken."""
        ...

    def replace(self, path: str, data: bytes | memoryview, *, version: str) -> Entry | None:
        """Replace an object only while it is of `version`; None when it is not any more."""
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
