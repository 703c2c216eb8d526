"""Files that are there whole and durably, or not at all, and folders that one process locks."""

import errno
import fcntl
import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from trainer.errors import LockedError, StorageError

TEMPORARY = ".tmp-"
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
_LOCK_SECONDS = 10
_NO_LOCKS = {errno.EBADF, errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}
ABSENT = (FileNotFoundError, NotADirectoryError, IsADirectoryError)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other processes that ask for it out of `folder`."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    except ABSENT:
        yield  # nothing there to protect
        return
    try:
        _lock(descriptor, folder)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int, folder: Path) -> None:
    deadline = time.monotonic() + _LOCK_SECONDS
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise LockedError(
                    f"folder {folder} is locked by another process, which does not let it go in "
                    f"{_LOCK_SECONDS} s: end it if it is frozen (lsof {folder} names it)"
                ) from None
            time.sleep(0.01)
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            return


@contextmanager
def temporary_file(folder: Path, data: bytes | memoryview) -> Iterator[Path]:
    """A complete and durable file of `data`, gone afterwards unless it was renamed."""
    temporary = folder / f"{TEMPORARY}{uuid.uuid4().hex}"
    try:
        descriptor = _open_new(temporary)
        try:
            _write_all(descriptor, data)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        yield temporary
    finally:
        with suppress(OSError):
            temporary.unlink()


def _write_all(descriptor: int, data: bytes | memoryview) -> None:
    # One call takes 2 GiB at most, and fewer when the disk fills up.
    rest = memoryview(data).cast("B") if memoryview(data).nbytes else memoryview(b"")
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _open_new(file: Path) -> int:
    # Whoever deletes a folder's last object removes the folder, maybe just now: make it again.
    for _ in range(100):
        with suppress(FileNotFoundError):
            _make_folder(file.parent)
            return os.open(file, _NEW_FILE, 0o666)
    raise StorageError(f"folder {file.parent} vanishes again and again: find out who removes it")


def _make_folder(folder: Path) -> None:
    """Create a folder and its missing parents, each of them durably."""
    if not folder.is_dir():
        _make_folder(folder.parent)
        with suppress(FileExistsError):
            folder.mkdir()
        sync_folder(folder.parent)


def remove_empty_folders(folder: Path, root: Path) -> None:
    """Remove `folder` and its parents below `root`, as far as they are empty."""
    while folder != root:
        try:
            folder.rmdir()
        except OSError:
            # Not empty, not ours to remove, or gone: then whoever removed it looks further up.
            break
        folder = folder.parent
    sync_folder(folder)


def publish_without_links(temporary: Path, target: Path) -> bool:
    """Give a file its name where there are no hard links; False when the name was taken."""
    try:
        os.close(os.open(target, _NEW_FILE, 0o666))
    except FileExistsError:
        return False
    try:
        temporary.replace(target)
    except BaseException:
        target.unlink()
        raise
    return True


def sync_folder(folder: Path) -> None:
    """Make what was created, renamed or removed in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network file systems cannot sync a folder.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)
