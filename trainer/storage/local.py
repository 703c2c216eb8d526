"""Objects as files under a local folder.

An object appears whole or not at all: it is written and synced under a temporary name in its own
folder, then renamed or linked, and the folder is synced. A process killed in between leaves only
a temporary file, which `list` does not show and `remove_temporaries` clears.
"""

import errno
import os
import stat
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from trainer.errors import DeviceError, ObjectNotFoundError, StorageError
from trainer.storage.base import Entry, PassOver, check_path, is_name, pass_over
from trainer.storage.durable import (
    ABSENT,
    TEMPORARY,
    locked,
    publish_without_links,
    remove_empty_folders,
    sync_folder,
    temporary_file,
)

_NO_HARD_LINKS = {errno.EPERM, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}

# What to do about an errno; filled in with the folders, the action and the user's number.
_DISK_FULL = "disk full: free space in {root} or set run.dir to a folder on another disk"
_DENIED = "let user {user} {action} in {folder}, or set run.dir to another folder"
_WAYS_OUT = {
    errno.ENOSPC: _DISK_FULL,
    errno.EDQUOT: _DISK_FULL,
    errno.EFBIG: "raise the file-size limit (ulimit -f) or set run.dir to another file system",
    errno.EACCES: _DENIED,
    errno.EPERM: _DENIED,
    errno.EISDIR: "a folder is where a file should be: remove it",
    errno.ENAMETOOLONG: "set run.dir to a folder with a shorter path",
    errno.ENOTDIR: "a file is where a folder should be: set run.dir to another folder",
    errno.EROFS: "mount it writable or set run.dir to a writable folder",
}


class LocalStorage:
    """`Storage` on a local folder, which is created by the first write.

    Paths are plain printable names joined by `/`; others raise `ConfigError`. Reads follow
    symbolic links; a write or delete through a link that leads out of the root is refused.
    Linked folders are not listed. Two instances, threads or processes may share a root.
    """

    def __init__(self, root: Path, *, link: Callable[[Path, Path], None] = os.link) -> None:
        # Absolute, so that it means the same after a change of the working directory.
        self.root = Path(os.path.abspath(root))  # noqa: PTH100 - resolve() would read the disk
        self.url = str(self.root)
        self._link = link

    def list(self, prefix: str = "", *, pass_over: PassOver = pass_over) -> Iterator[Entry]:
        """Objects under the folder `prefix`, ordered by path; none if it does not exist."""
        name = prefix.removesuffix("/")
        folder = self._file(name) if prefix else self.root
        return _walk(folder, f"{name}/" if name else "", pass_over)

    def folders(self) -> Sequence[str]:
        """Names of the folders right below the root, in order."""
        try:
            with _explained("read", self.root), os.scandir(self.root) as found:
                return sorted(e.name for e in found if e.is_dir() and is_name(e.name))
        except ObjectNotFoundError:
            return ()

    def stat(self, path: str) -> Entry:
        """The entry of one object."""
        file = self._file(path)
        with _explained("read", file):
            return _entry(path, file, file.stat())

    def read(self, path: str, *, start: int = 0, length: int | None = None) -> bytes:
        """Bytes [start, start + length), fewer where the object ends before."""
        if start < 0 or (length is not None and length < 0):
            raise ValueError(f"start and length must not be negative, got {start} and {length}")
        file = self._file(path)
        with _explained("read", file), open(file, "rb", opener=_open_at_once) as opened:
            available = max(0, _entry(path, file, os.fstat(opened.fileno())).size - start)
            opened.seek(start)
            return opened.read(available if length is None else min(length, available))

    def write(self, path: str, data: bytes | memoryview) -> Entry:
        """Create or replace an object. `data` must be contiguous; the GIL is free meanwhile."""
        target = self._target(path)
        with _explained("write", target, self.root):
            with temporary_file(target.parent, data) as temporary:
                entry = _entry(path, target, temporary.stat())
                with suppress(OSError):
                    target.rmdir()  # an empty folder is no object: not in the way of one
                temporary.replace(target)
            sync_folder(target.parent)
            return entry

    def replace(self, path: str, data: bytes | memoryview, *, version: str) -> Entry | None:
        """Replace an object only while it is of `version`; None when it is not any more.

        Where the file system has no locks, two writers in the same moment may both succeed.
        """
        target = self._target(path)
        with _explained("write", target, self.root), locked(target.parent):
            try:
                is_same = _entry(path, target, target.stat()).version == version
            except (*ABSENT, ObjectNotFoundError):
                return None
            return self.write(path, data) if is_same else None

    def create(self, path: str, data: bytes | memoryview) -> Entry | None:
        """Create an object only if the path is free; None when it was taken.

        Where the file system has no hard links, readers may see the object empty for a moment,
        and a kill in that moment leaves it empty.
        """
        target = self._target(path)
        with _explained("write", target, self.root):
            # Taken already: spare the disk the data.
            if os.path.lexists(target):
                return None
            with temporary_file(target.parent, data) as temporary:
                entry = _entry(path, target, temporary.stat())
                if not self._publish(temporary, target):
                    return None
            sync_folder(target.parent)
            return entry

    def check_writable(self, path: str) -> None:
        """Look at the rights in the nearest folder that is there; nothing is written."""
        target = self._target(path)
        with _explained("write", target, self.root):
            folder = target.parent
            temporary = folder / f"{TEMPORARY}{uuid.uuid4().hex}"
            longest = max(len(os.fsencode(name)) for name in temporary.parts)
            if longest > 255 or len(os.fsencode(temporary)) > 4095:  # Linux' limits
                raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
            while not folder.exists():
                folder = folder.parent
            if not folder.is_dir():
                raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
            if not os.access(folder, os.W_OK | os.X_OK, effective_ids=True):
                is_read_only = os.statvfs(folder).f_flag & os.ST_RDONLY
                code = errno.EROFS if is_read_only else errno.EACCES
                raise OSError(code, os.strerror(code))

    def delete(self, path: str) -> None:
        """Remove an object and the folders that this empties; an absent one is fine."""
        target = self._target(path)
        root = Path(os.path.realpath(self.root))
        with _explained("delete", target), suppress(*ABSENT):
            target.unlink()
            remove_empty_folders(target.parent, root)

    def remove_temporaries(self, *, older_than_seconds: float) -> int:
        """Remove what killed writers left behind; returns the number of files."""
        num_removed = 0
        for folder, _, names in os.walk(self.root):
            for file in (Path(folder, name) for name in names if name.startswith(TEMPORARY)):
                with _explained("delete", file), suppress(FileNotFoundError):
                    if time.time() - file.lstat().st_mtime > older_than_seconds:
                        file.unlink()
                        num_removed += 1
        return num_removed

    def _file(self, path: str) -> Path:
        check_path(path, hidden=TEMPORARY)
        return self.root.joinpath(*path.split("/"))

    def _target(self, path: str) -> Path:
        """The file to change, in a folder without symbolic links."""
        file, root = self._file(path), os.path.realpath(self.root)
        folder = Path(os.path.realpath(file.parent))
        if not folder.is_relative_to(root):
            raise StorageError(
                f"cannot change {file}: a symbolic link leads to {folder}, outside of {root}: "
                "put a real folder in its place"
            )
        return folder / file.name

    def _publish(self, temporary: Path, target: Path) -> bool:
        try:
            self._link(temporary, target)
        except FileExistsError:
            # A network file system may lose the reply to a link it made (open(2), O_EXCL).
            return temporary.stat().st_nlink > 1
        except OSError as error:
            if error.errno not in _NO_HARD_LINKS:
                raise
            return publish_without_links(temporary, target)
        return True


def _open_at_once(file: str, flags: int) -> int:
    # Without O_NONBLOCK opening a FIFO would wait for a writer without bound.
    return os.open(file, flags | os.O_NONBLOCK)


def _entry(path: str, file: Path, info: os.stat_result) -> Entry:
    if not stat.S_ISREG(info.st_mode):
        raise ObjectNotFoundError(f"{file} is not a regular file: check the path")
    # A change renames a new file into place. Its own time, because numbers are used again.
    version = f"{info.st_ino}-{info.st_mtime_ns}"
    return Entry(path=path, size=info.st_size, updated=info.st_mtime, version=version)


def _walk(folder: Path, prefix: str, pass_over: PassOver) -> Iterator[Entry]:
    try:
        with _explained("read", folder), os.scandir(folder) as found:
            entries = [entry for entry in found if not entry.name.startswith(TEMPORARY)]
    except ObjectNotFoundError:
        return
    # A folder counts with its slash: 'a-b' comes before 'a/b', as in an object store.
    for entry in sorted(entries, key=lambda e: e.name + "/" * e.is_dir(follow_symlinks=False)):
        path = prefix + entry.name
        if not is_name(entry.name):
            pass_over(path)
        elif entry.is_dir(follow_symlinks=False):
            yield from _walk(Path(entry.path), f"{path}/", pass_over)
        else:
            # Gone since the scan, a broken link, or no regular file: no object.
            with (
                _explained("read", Path(entry.path)),
                suppress(FileNotFoundError, ObjectNotFoundError),
            ):
                yield _entry(path, Path(entry.path), entry.stat())


@contextmanager
def _explained(action: str, file: Path, root: Path | None = None) -> Iterator[None]:
    """Turn an `OSError` into a `StorageError` that says what to do."""
    try:
        yield
    except OSError as error:
        is_absent = isinstance(error, ABSENT) or error.errno == errno.ENAMETOOLONG
        if action == "read" and is_absent:
            raise ObjectNotFoundError(f"no object {file}: check the path") from error
        kind = StorageError if error.errno in _WAYS_OUT else DeviceError
        way_out = _WAYS_OUT.get(error.errno or 0, "check the disk or the network share").format(
            # A checkpoint's own folder is removed when its save has failed.
            folder=file.parent, root=root or file.parent, action=action, user=os.geteuid()
        )  # fmt: skip
        raise kind(f"cannot {action} {file}: {error.strerror}: {way_out}") from error
