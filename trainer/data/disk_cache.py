"""Pieces of remote data on a local disk, for the next epoch, the next life and other runs.

A file a piece: its CRC-32C (4 bytes), then its bytes, under a name that tells what they are.
Everything here may fail without harm: what is not found, or damaged, is downloaded.
"""

import logging
import os
import shutil
import stat
import struct
import tempfile
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import google_crc32c

_log = logging.getLogger(__name__)
_CRC = struct.Struct("<I")


class DiskCache:
    """A bounded folder of pieces; threads and processes may share it.

    Each process looks at the folder's size again whenever it has written a twentieth of the
    limit: by so much every further one may exceed it for a while.

    Args:
        folder: one that nobody else can write to; see `private_folder`.
        on_failure: told once why nothing more is written.
    """

    def __init__(
        self, folder: Path, limit_bytes: int, *, on_failure: Callable[[OSError], None]
    ) -> None:
        self._folder = folder
        self._limit = limit_bytes
        self._on_failure = on_failure
        # A file system's clock may lag behind: its times are a few milliseconds old.
        self._opened = time.time() - 1
        self._lock = threading.Lock()
        self._is_writable = True
        self._has_room = True
        self._until_look = 0

    def get(self, name: str) -> bytes | None:
        """The bytes that were put under this name, or None."""
        file = self._folder / name
        try:
            with file.open("rb", buffering=0) as opened:
                crc, data = opened.read(_CRC.size), opened.read()
            if crc != _CRC.pack(google_crc32c.value(data)):
                file.unlink(missing_ok=True)
                return None
            os.utime(file)
        except OSError:
            return None
        return data

    def put(self, name: str, data: bytes) -> None:
        """Keep the bytes if there is room."""
        if not self._takes(len(data)):
            return
        temporary = self._folder / f".tmp-{uuid.uuid4().hex}"
        try:
            with temporary.open("xb", buffering=0) as opened:
                written = os.writev(opened.fileno(), [_CRC.pack(google_crc32c.value(data)), data])
            if written < _CRC.size + len(data):
                raise OSError(f"only {written} bytes of {len(data)} were written")
            temporary.replace(self._folder / name)
        except OSError as error:
            with suppress(OSError):
                temporary.unlink()
            self._fail(error)

    def _takes(self, size: int) -> bool:
        """Whether so many bytes may be written."""
        with self._lock:
            self._until_look -= size
            if self._is_writable and self._until_look < 0:
                share = max(self._limit // 20, size)
                self._until_look = share - size
                self._has_room = self._shrink(self._limit - share)
            return self._is_writable and self._has_room

    def _shrink(self, target: int) -> bool:
        """Whether at most `target` bytes are there, once pieces that nobody uses have gone.

        What was used since this cache was opened stays: an epoch goes through all pieces, and
        the least recently used of its own would be those that come next.
        """
        found = []
        with suppress(OSError), os.scandir(self._folder) as entries:
            for entry in entries:
                with suppress(FileNotFoundError):
                    info = entry.stat(follow_symlinks=False)
                    found.append((info.st_mtime, info.st_size, entry.path))
        total = sum(size for _, size, _ in found)
        for used, size, path in sorted(found):
            if total <= target or used >= self._opened:
                break
            with suppress(OSError):
                Path(path).unlink(missing_ok=True)  # another process may have been faster
                total -= size
        return total <= target

    def _fail(self, error: OSError) -> None:
        with self._lock:
            is_told, self._is_writable = not self._is_writable, False
        if not is_told:
            self._on_failure(error)


def open_disk_cache(parent: str | None, limit_bytes: int) -> DiskCache | None:
    """The cache in this user's folder in `parent`; None, and said why, where there can be none."""

    def tell(error: OSError) -> None:
        _log.warning("disk cache off: %s", error)

    if limit_bytes == 0:
        return None
    try:
        folder = private_folder(cache_parent(parent))
        room = lack_of_room(folder, limit_bytes)
    except OSError as error:
        tell(error)
        return None
    if room:
        _log.warning("disk cache: %s", room)
    return DiskCache(folder, limit_bytes, on_failure=tell)


def lack_of_room(folder: Path, limit_bytes: int) -> str | None:
    """That a cache in `folder` cannot grow to its limit, in words. Raises OSError."""
    kept = 0
    for file in folder.iterdir():
        with suppress(FileNotFoundError):  # others may use it, too
            kept += file.stat().st_size
    free = shutil.disk_usage(folder).free
    if kept + free >= limit_bytes:
        return None
    return (
        f"{free // 1_000_000:,} MB are free in {folder} for {limit_bytes // 1_000_000:,} MB: it "
        "ends where the disk is full; set data.disk_cache_mb or data.disk_cache_dir"
    )


def cache_parent(configured: str | None) -> Path:
    """Where caches are, unless configured: the system's temporary folder."""
    return Path(configured or tempfile.gettempdir())


def private_folder(parent: Path) -> Path:
    """This user's folder in `parent`, made if need be; others may be able to write to `parent`.

    Raises OSError when it cannot be made, or is not this user's alone: somebody else may have
    made it, or a link in its place.
    """
    folder = parent / f"trainer-data-{os.geteuid()}"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    info = folder.lstat()
    if not stat.S_ISDIR(info.st_mode) or info.st_uid != os.geteuid() or info.st_mode & 0o077:
        raise PermissionError(f"{folder} is not a folder of this user alone")
    return folder
