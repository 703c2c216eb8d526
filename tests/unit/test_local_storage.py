"""LocalStorage on real folders: objects, listing, and paths that stay inside of the root."""

import errno
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.small_storage import files, paths
from trainer.errors import ConfigError, ObjectNotFoundError, StorageError
from trainer.storage import LocalStorage


@pytest.fixture
def storage(tmp_path: Path) -> LocalStorage:
    return LocalStorage(tmp_path / "run")


# --- objects


def test_write_read_stat(storage: LocalStorage) -> None:
    storage.write("step-1/part-0", b"0123456789")
    entry = storage.stat("step-1/part-0")
    assert (entry.path, entry.size) == ("step-1/part-0", 10)
    assert abs(entry.updated - time.time()) < 60
    assert storage.read("step-1/part-0") == b"0123456789"


@pytest.mark.parametrize(
    ("start", "length", "expected"),
    [
        (0, 3, b"012"),
        (4, None, b"456789"),
        (8, 10**15, b"89"),
        (10, 5, b""),
        (99, None, b""),
        (3, 0, b""),
    ],
)
def test_ranges(storage: LocalStorage, start: int, length: int | None, expected: bytes) -> None:
    storage.write("a", b"0123456789")
    assert storage.read("a", start=start, length=length) == expected


@pytest.mark.parametrize("range_", [{"start": -1}, {"length": -1}])
def test_negative_range(storage: LocalStorage, range_: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="must not be negative"):
        storage.read("a", **range_)


@pytest.mark.parametrize("data", [b"", memoryview(b""), memoryview(bytearray(b"abcd")).cast("i")])
def test_write_takes_any_buffer(storage: LocalStorage, data: bytes | memoryview) -> None:
    storage.write("a", data)
    assert storage.read("a") == bytes(data)


def test_write_replaces_and_leaves_no_temporary(storage: LocalStorage) -> None:
    storage.write("a", b"old and longer")
    storage.write("a", b"new")
    assert storage.read("a") == b"new"
    assert files(storage) == ["a"]


def test_files_follow_the_umask(storage: LocalStorage) -> None:
    storage.write("a", b"")
    storage.create("b", b"")
    mask = os.umask(0o022)
    os.umask(mask)
    assert {storage.root.joinpath(n).stat().st_mode & 0o777 for n in "ab"} == {0o666 & ~mask}


def test_create_only_if_free(storage: LocalStorage) -> None:
    assert storage.create("COMMIT", b"first")
    assert not storage.create("COMMIT", b"second")
    assert storage.read("COMMIT") == b"first"
    assert files(storage) == ["COMMIT"]


def test_delete_removes_emptied_folders(storage: LocalStorage) -> None:
    storage.write("a/b/c/x", b"")
    storage.write("a/y", b"")
    storage.delete("a/b/c/x")
    assert paths(storage) == ["a/y"]
    assert not (storage.root / "a/b").exists()
    storage.delete("a/y")
    assert list(storage.root.iterdir()) == []


class Disk:
    """What a power cut would leave of files and folders: what they held when last synced."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._held: dict[int, bytes | set[str]] = {}
        monkeypatch.setattr(os, "fsync", self._sync)

    def _sync(self, descriptor: int) -> None:
        file = Path(f"/proc/self/fd/{descriptor}").resolve()
        held = {p.name for p in file.iterdir()} if file.is_dir() else file.read_bytes()
        self._held[os.fstat(descriptor).st_ino] = held

    def read(self, file: Path, above: Path) -> bytes | None:
        """The bytes of a file, if `above` and each folder on the way there hold the next."""
        way = file.relative_to(above).parts
        for depth, name in enumerate(way):
            if name not in self._held.get(above.joinpath(*way[:depth]).stat().st_ino, ()):
                return None
        return self._held.get(file.stat().st_ino)


def refuse_links(_source: Path, _target: Path) -> None:
    raise OSError(errno.EPERM, os.strerror(errno.EPERM))


@pytest.mark.parametrize("link", [os.link, refuse_links])
@pytest.mark.parametrize("method", ["write", "create"])
def test_a_power_cut_leaves_what_was_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str, link: Callable[..., None]
) -> None:
    disk, storage = Disk(monkeypatch), LocalStorage(tmp_path / "runs/run", link=link)
    for path in ("new/folder/a", "new/folder/b", "c"):
        getattr(storage, method)(path, path.encode())
        assert disk.read(storage.root / path, above=tmp_path) == path.encode()


@pytest.mark.parametrize("path", ["absent", "a/absent", "file/below", "folder"])
def test_absent_objects(storage: LocalStorage, path: str) -> None:
    storage.write("file", b"")
    storage.write("folder/x", b"")
    storage.delete(path)
    with pytest.raises(ObjectNotFoundError, match=path):
        storage.read(path)
    with pytest.raises(ObjectNotFoundError, match=path):
        storage.stat(path)


def test_a_fifo_is_no_object_and_does_not_block(storage: LocalStorage) -> None:
    storage.write("a", b"")
    os.mkfifo(storage.root / "fifo")
    with pytest.raises(ObjectNotFoundError, match="regular file"):
        storage.read("fifo")
    assert paths(storage) == ["a"]


# --- listing


def test_list_is_ordered_by_path_across_folders(storage: LocalStorage) -> None:
    expected = sorted(["a-b", "a/b", "a/b.c", "a/b/c", "a.d", "a0", "z/y/x", "é"])
    expected.remove("a/b")  # a folder cannot be a file too
    for path in reversed(expected):
        storage.write(path, path.encode())
    assert paths(storage) == expected
    assert [e.size for e in storage.list()] == [len(p.encode()) for p in expected]


def test_names_that_no_path_may_have_are_told_of(storage: LocalStorage) -> None:
    for path in ("a/1", "b\u202f/2", "c"):
        (storage.root / path).parent.mkdir(parents=True, exist_ok=True)
        (storage.root / path).touch()
    (storage.root / "a" / ".tmp-1").touch()
    (storage.root / "a" / "\\").touch()
    passed: list[str] = []
    assert [entry.path for entry in storage.list(pass_over=passed.append)] == ["a/1", "c"]
    assert passed == ["a/\\", "b\u202f"]


def test_list_takes_a_folder_not_a_string_prefix(storage: LocalStorage) -> None:
    for path in ("step-1/a", "step-10/a", "step"):
        storage.write(path, b"")
    assert paths(storage, "step-1") == paths(storage, "step-1/") == ["step-1/a"]
    assert paths(storage, "absent") == []


def test_list_of_a_root_that_does_not_exist_creates_nothing(storage: LocalStorage) -> None:
    assert paths(storage) == []
    assert not storage.root.exists()


def test_folders_are_those_right_below(storage: LocalStorage) -> None:
    assert list(storage.folders()) == []
    for path in ("b/c/d", "a/e", "file", ".tmp-1/f", "é/g"):
        (storage.root / path).parent.mkdir(parents=True, exist_ok=True)
        (storage.root / path).touch()
    (storage.root / "empty").mkdir()
    assert list(storage.folders()) == [".tmp-1", "a", "b", "empty", "é"]


def test_list_skips_what_is_no_object(storage: LocalStorage) -> None:
    storage.write("a", b"")
    (storage.root / ".tmp-123").write_bytes(b"half")
    (storage.root / "broken").symlink_to("nowhere")
    (storage.root / "back\\slash").touch()
    (storage.root / "loop").symlink_to(".")
    assert paths(storage) == ["a"]


def test_remove_temporaries_only_old_ones(storage: LocalStorage) -> None:
    storage.write("step/a", b"")
    for name, age in (("old", 7200), ("young", 0)):
        file = storage.root / f"step/.tmp-{name}"
        file.touch()
        os.utime(file, (time.time() - age,) * 2)
    assert storage.remove_temporaries(older_than_seconds=3600) == 1
    assert files(storage) == [".tmp-young", "a"]


# --- paths


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd", "..", "../x", "a/../b", "a/..", "", "a//b", "a/", ".", "./a", "a\0b",
        "a\\b", "a\nb", ".tmp-x", ".tmp-x/a", "\ud800",
    ],
)  # fmt: skip
def test_f69_paths_that_are_refused(storage: LocalStorage, path: str) -> None:
    for method in (storage.read, storage.stat, storage.delete):
        with pytest.raises(ConfigError, match="is refused"):
            method(path)
    for method in (storage.write, storage.create):
        with pytest.raises(ConfigError, match="is refused"):
            method(path, b"")
    assert not storage.root.exists()


@pytest.mark.parametrize("prefix", ["/", "..", "a/../b", "a//"])
def test_f69_prefixes_that_are_refused_at_once(storage: LocalStorage, prefix: str) -> None:
    with pytest.raises(ConfigError, match="is refused"):
        storage.list(prefix)


def test_writes_do_not_leave_the_root_through_a_link(storage: LocalStorage, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "victim").touch()
    storage.write("a", b"")
    (storage.root / "link").symlink_to(outside)
    with pytest.raises(StorageError, match="symbolic link leads to"):
        storage.write("link/new/x", b"")
    with pytest.raises(StorageError, match="symbolic link leads to"):
        storage.create("link/x", b"")
    with pytest.raises(StorageError, match="symbolic link leads to"):
        storage.delete("link/victim")
    assert [p.name for p in outside.iterdir()] == ["victim"]


def test_a_linked_file_is_replaced_not_written_through(
    storage: LocalStorage, tmp_path: Path
) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    storage.root.mkdir()
    (storage.root / "a").symlink_to(victim)
    assert not storage.create("a", b"x")
    storage.write("a", b"new")
    assert (victim.read_bytes(), storage.read("a")) == (b"precious", b"new")


def test_links_inside_and_a_linked_root_work(tmp_path: Path) -> None:
    (tmp_path / "real/sub").mkdir(parents=True)
    (tmp_path / "root").symlink_to("real")
    (tmp_path / "real/link").symlink_to("sub")
    storage = LocalStorage(tmp_path / "root")
    storage.write("link/x", b"1")
    assert storage.read("sub/x") == b"1"


def test_an_object_in_the_place_of_a_folder(storage: LocalStorage) -> None:
    storage.write("a", b"")
    with pytest.raises(StorageError, match="Not a directory"):
        storage.write("a/b", b"")


def test_a_full_disk_is_told_of_by_the_root(tmp_path: Path) -> None:
    def fail(_source: Path, _target: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    storage = LocalStorage(tmp_path / "run", link=fail)
    with pytest.raises(StorageError, match=f"free space in {storage.root} or set run.dir"):
        storage.create("step-1/writer/part-0", b"x")
