"""LocalStorage on real folders, with real faults: full and read-only disks, races, kill -9."""

import errno
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from trainer.errors import ConfigError, ObjectNotFoundError, StorageError
from trainer.storage import LocalStorage, open_storage

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def storage(tmp_path: Path) -> LocalStorage:
    return LocalStorage(tmp_path / "run")


def paths(storage: LocalStorage, prefix: str = "") -> list[str]:
    return [entry.path for entry in storage.list(prefix)]


def files(storage: LocalStorage) -> list[str]:
    return sorted(p.name for p in storage.root.rglob("*") if p.is_file())


def child(code: str, *args: object, before: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    command = [*before, sys.executable, "-c", code, *map(str, args)]
    return subprocess.Popen(
        command,
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def wait_until_ready(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"


def output(process: subprocess.Popen[str]) -> str:
    return process.communicate(timeout=60)[0]


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


def test_list_takes_a_folder_not_a_string_prefix(storage: LocalStorage) -> None:
    for path in ("step-1/a", "step-10/a", "step"):
        storage.write(path, b"")
    assert paths(storage, "step-1") == paths(storage, "step-1/") == ["step-1/a"]
    assert paths(storage, "absent") == []


def test_list_of_a_root_that_does_not_exist_creates_nothing(storage: LocalStorage) -> None:
    assert paths(storage) == []
    assert not storage.root.exists()


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


def test_the_root_keeps_its_meaning_when_the_working_directory_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    storage = open_storage("runs/demo")
    monkeypatch.chdir("/")
    storage.write("a", b"")
    assert (tmp_path / "runs/demo/a").exists()
    assert storage.url == str(tmp_path / "runs/demo")


# --- races


def winners_of(storage: LocalStorage, num_threads: int = 16) -> list[int]:
    start = threading.Barrier(num_threads)

    def compete(number: int) -> bool:
        start.wait()
        return storage.create("COMMIT", str(number).encode() * 1000)

    with ThreadPoolExecutor(num_threads) as pool:
        results = list(pool.map(compete, range(num_threads)))
    return [number for number, won in enumerate(results) if won]


def refuse_links(_source: Path, _target: Path) -> None:
    raise OSError(errno.EPERM, os.strerror(errno.EPERM))


@pytest.mark.parametrize("link", [os.link, refuse_links])
def test_create_race_of_threads_has_one_winner(tmp_path: Path, link: object) -> None:
    for round_ in range(20):
        storage = LocalStorage(tmp_path / str(round_), link=link)  # type: ignore[arg-type]
        (winner,) = winners_of(storage)
        assert storage.read("COMMIT") == str(winner).encode() * 1000
        assert files(storage) == ["COMMIT"]


COMPETE = """
import sys
from pathlib import Path
from trainer.storage import LocalStorage
root, name = sys.argv[1:]
storage = LocalStorage(Path(root))
print("ready", flush=True)
sys.stdin.readline()
for n in range(50):
    if storage.create(f"c/{n}", name.encode()): print(n, name)
"""


def test_create_race_of_processes_has_one_winner(storage: LocalStorage) -> None:
    children = [child(COMPETE, storage.root, name) for name in "abcd"]
    for process in children:
        wait_until_ready(process)
    for process in children:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    won = [line.split() for process in children for line in output(process).splitlines()]
    assert sorted(int(number) for number, _ in won) == list(range(50))
    assert all(storage.read(f"c/{number}") == name.encode() for number, name in won)


def test_lost_reply_of_a_link_is_recognised_as_ours(tmp_path: Path) -> None:
    def link_and_lose_the_reply(source: Path, target: Path) -> None:
        os.link(source, target)
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))

    storage = LocalStorage(tmp_path, link=link_and_lose_the_reply)
    assert storage.create("a", b"mine")
    assert files(storage) == ["a"]


def test_writers_and_deleters_of_one_folder_do_not_disturb_each_other(
    storage: LocalStorage,
) -> None:
    def write_and_delete(number: int) -> None:
        for _ in range(30):
            storage.write(f"a/b/{number}", b"x")
            assert storage.read(f"a/b/{number}") == b"x"
            storage.delete(f"a/b/{number}")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write_and_delete, range(8)))
    assert list(storage.root.iterdir()) == []


# --- faults


WRITE_FOR_EVER = """
import sys
from pathlib import Path
from trainer.storage import LocalStorage
storage = LocalStorage(Path(sys.argv[1]))
print("ready", flush=True)
while True:
    for letter in (b"A", b"B"):
        storage.write("object", letter * 4_000_000)
"""


def test_kill_9_in_mid_write_leaves_old_or_new(storage: LocalStorage) -> None:
    for round_ in range(30):
        process = child(WRITE_FOR_EVER, storage.root)
        wait_until_ready(process)
        time.sleep(0.02 + 0.007 * round_)
        process.send_signal(signal.SIGKILL)
        output(process)
        if paths(storage):
            data = storage.read("object")
            assert data in (b"A" * 4_000_000, b"B" * 4_000_000)
        if round_ >= 4 and any(name.startswith(".tmp-") for name in files(storage)):
            break
    else:
        pytest.fail("no kill hit a write")
    assert paths(storage) in (["object"], [])


FILL = """
import sys
from pathlib import Path
from trainer.storage import LocalStorage
from trainer.errors import StorageError
storage = LocalStorage(Path(sys.argv[1]))
storage.write("object", b"old")
for method in (storage.write, storage.create):
    try: method("object" if method == storage.write else "new", b"x" * 3_000_000)
    except StorageError as error: print(error)
print([e.path for e in storage.list()], storage.read("object"))
print([p.name for p in storage.root.iterdir()])
"""


def private_mount(options: str) -> tuple[str, ...]:
    """A command that mounts a tmpfs on its third argument, unseen by others, and goes on."""
    script = f'mount -t tmpfs -o {options} tmpfs "$4" && exec "$@"'
    return ("unshare", "-m", "sh", "-c", script, "sh")


needs_mounts = pytest.mark.skipif(
    os.geteuid() != 0
    or shutil.which("unshare") is None
    or subprocess.run(["unshare", "-m", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]).returncode != 0,
    reason="needs the right to mount",
)


@needs_mounts
def test_f24_disk_full(tmp_path: Path) -> None:
    said = output(child(FILL, tmp_path, before=private_mount("size=1m"))).splitlines()
    assert len(said) == 4
    for line in said[:2]:
        assert "No space left on device" in line
        assert f"free space in {tmp_path} or set run.dir" in line
    assert said[2:] == ["['object'] b'old'", "['object']"]


def test_f24_file_size_limit(tmp_path: Path) -> None:
    limit = f"import resource; resource.setrlimit({resource.RLIMIT_FSIZE}, (1_000_000,) * 2)\n"
    said = output(child(limit + FILL, tmp_path)).splitlines()
    assert len(said) == 4
    assert all("File too large: raise the file-size limit" in line for line in said[:2])
    assert said[2:] == ["['object'] b'old'", "['object']"]


REFUSED = """
import os, sys
from pathlib import Path
from trainer.storage import LocalStorage
from trainer.errors import StorageError
storage = LocalStorage(Path(sys.argv[1]))
if "no-rights" in sys.argv:
    os.chmod(storage.root, 0o500)
    if os.geteuid() == 0: os.seteuid(65534)
for change in (lambda: storage.write("a", b""), lambda: storage.create("a/b", b"")):
    try: change()
    except StorageError as error: print(error)
"""


@needs_mounts
def test_f25_read_only_mount(tmp_path: Path) -> None:
    said = output(child(REFUSED, tmp_path, before=private_mount("ro"))).splitlines()
    assert len(said) == 2
    assert all(f"cannot write {tmp_path}" in line for line in said)
    assert all("Read-only file system: mount it writable or set run.dir" in line for line in said)


def test_f25_no_permission(tmp_path: Path) -> None:
    said = output(child(REFUSED, tmp_path, "no-rights")).splitlines()
    assert len(said) == 2
    assert all("Permission denied: let user" in line for line in said)
    assert all(f"write in {tmp_path}" in line for line in said)


def test_an_object_in_the_place_of_a_folder(storage: LocalStorage) -> None:
    storage.write("a", b"")
    with pytest.raises(StorageError, match="Not a directory"):
        storage.write("a/b", b"")


# --- URLs


@pytest.mark.parametrize(
    "form", ["{}/a b", "file://{}/a%20b", "file://localhost{}/a%20b", "FILE://{}/a b"]
)
def test_open_storage_on_a_local_folder(tmp_path: Path, form: str) -> None:
    storage = open_storage(form.format(tmp_path))
    assert storage.url == str(tmp_path / "a b")
    assert open_storage(storage.url).url == storage.url


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("gs://bucket/run", "gs:// storage is not supported by this version: use a local folder"),
        ("s3://bucket/run", "s3:// storage is not supported"),
        ("file://host/run", "must name this host"),
        ("gs://user:pw@bucket/run", "holds a user name or a password"),
        ("file://user:pw@localhost/run", "holds a user name or a password"),
        ("file:run", "must name this host"),
        ("file:///a?b", "no query"),
        ("file:///a/%ff", "not UTF-8"),
        ("", "names no folder"),
        ("a\0b", "names no folder"),
        ("file:///a%00b", "names no folder"),
        ("../run", "holds '..'"),
        ("/runs/../etc", "holds '..'"),
        ("file:///runs/%2e%2e/etc", "holds '..'"),
        ("/runs\\x", "backslash"),
        ("~/runs", "write the whole path"),
    ],
)
def test_f69_urls_that_are_refused(url: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        open_storage(url)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "gs://user:hunter2@bucket/run", "gs://user:hun/hunter2@bucket", "s3://hunter2:@bucket",
        "file://user:hunter2@host/run", "https://host/run?token=hunter2", "user:hunter2@host/run",
        "hunter2@host:run", "//user:hunter2@host/run", "hunter2:x", "gs://b/run?hunter2",
    ],
)  # fmt: skip
def test_f70_secrets_of_a_url_are_never_shown(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        open_storage(url)
    assert "hunter2" not in str(caught.value)
