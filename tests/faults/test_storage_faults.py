"""LocalStorage under real faults: races, kill -9, full and read-only disks."""

import errno
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.faults.surroundings import needs_mounts, private_mount
from tests.small_storage import files, paths
from trainer.storage import LocalStorage

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def storage(tmp_path: Path) -> LocalStorage:
    return LocalStorage(tmp_path / "run")


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
for change, *args in ((storage.write, b""), (storage.create, b""), (storage.check_writable,)):
    try: change("a/b", *args)
    except StorageError as error: print(error)
"""


@needs_mounts
def test_f25_read_only_mount(tmp_path: Path) -> None:
    said = output(child(REFUSED, tmp_path, before=private_mount("ro"))).splitlines()
    assert len(said) == 3
    assert len(set(said)) == 1
    assert all(f"cannot write {tmp_path}" in line for line in said)
    assert all("Read-only file system: mount it writable or set run.dir" in line for line in said)


def test_f25_no_permission(tmp_path: Path) -> None:
    said = output(child(REFUSED, tmp_path, "no-rights")).splitlines()
    assert len(said) == 3
    assert len(set(said)) == 1
    assert all("Permission denied: let user" in line for line in said)
    assert all(f"write in {tmp_path}" in line for line in said)
