"""Pieces on disk: verified, bounded, shared between processes, and never in the way."""

import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from trainer.data.disk_cache import DiskCache, open_disk_cache, private_folder

OLD = 1_000_000_000  # the time, in seconds, of what a former life used


def cache_in(folder: Path, limit: int = 10**6) -> tuple[DiskCache, list[OSError]]:
    errors: list[OSError] = []
    return DiskCache(folder, limit, on_failure=errors.append), errors


def age(folder: Path, *names: str) -> None:
    for number, name in enumerate(names):
        os.utime(folder / name, (OLD + number, OLD + number))


def size_of(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir())


def test_what_was_put_is_there_for_others(tmp_path: Path) -> None:
    data = os.urandom(10_000)
    cache_in(tmp_path)[0].put("a", data)
    other, errors = cache_in(tmp_path)
    assert (other.get("a"), other.get("b"), errors) == (data, None, [])


@pytest.mark.parametrize("at", [0, 4, 99, -1])
def test_a_damaged_piece_is_removed(tmp_path: Path, at: int) -> None:
    cache, _ = cache_in(tmp_path)
    cache.put("a", bytes(100))
    damaged = bytearray((tmp_path / "a").read_bytes())
    damaged[at] ^= 1
    (tmp_path / "a").write_bytes(damaged)
    assert cache.get("a") is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("size", [0, 1, 4, 103])
def test_a_cut_piece_is_removed(tmp_path: Path, size: int) -> None:
    cache, _ = cache_in(tmp_path)
    cache.put("a", b"x" * 100)
    os.truncate(tmp_path / "a", size)
    assert cache.get("a") is None
    assert list(tmp_path.iterdir()) == []


def test_the_bound_is_kept(tmp_path: Path) -> None:
    cache, errors = cache_in(tmp_path, 100_000)
    for number in range(300):
        cache.put(str(number), bytes(1000))
        assert size_of(tmp_path) <= 100_000
    assert size_of(tmp_path) >= 90_000
    assert errors == []


def test_what_nobody_used_for_longest_makes_room(tmp_path: Path) -> None:
    first, _ = cache_in(tmp_path, 100_000)
    for number in range(90):
        first.put(str(number), bytes(1000))
    age(tmp_path, *map(str, range(90)))
    second, _ = cache_in(tmp_path, 100_000)
    assert second.get("0") == bytes(1000)
    for number in range(20):
        second.put(f"new-{number}", bytes(1000))
    kept = {file.name for file in tmp_path.iterdir()}
    assert "0" in kept
    assert "1" not in kept
    assert {"89", "new-19"} < kept


def test_what_this_process_uses_is_not_given_up_for_what_comes_next(tmp_path: Path) -> None:
    cache, _ = cache_in(tmp_path, 100_000)
    for _ in range(3):
        hits = 0
        for number in range(150):
            if cache.get(str(number)) is None:
                cache.put(str(number), bytes(1000))
            else:
                hits += 1
    assert hits >= 90


def test_a_piece_beyond_the_limit_is_not_kept(tmp_path: Path) -> None:
    cache, errors = cache_in(tmp_path, 1000)
    cache.put("a", bytes(2000))
    assert (cache.get("a"), errors) == (None, [])


def test_processes_share_a_folder(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib\n"
        "from trainer.data.disk_cache import DiskCache\n"
        "def fail(error): raise error\n"
        "cache = DiskCache(pathlib.Path(sys.argv[1]), 300_000, on_failure=fail)\n"
        "for turn in range(5):\n"
        "    for number in range(200):\n"
        "        data = str(number).encode() * 1000\n"
        "        assert cache.get(str(number)) in (None, data)\n"
        "        cache.put(str(number), data)\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    children = [subprocess.Popen(command) for _ in range(3)]
    assert [child.wait(60) for child in children] == [0, 0, 0]
    # Of 490,000 bytes; each process but one may exceed the limit by a twentieth.
    assert 250_000 < size_of(tmp_path) <= 330_000
    assert not list(tmp_path.glob(".tmp-*"))


def test_a_folder_that_cannot_be_written_is_said_once(tmp_path: Path) -> None:
    cache, errors = cache_in(tmp_path / "absent")
    for name in "abc":
        cache.put(name, b"data")
    assert cache.get("a") is None
    assert [type(error) for error in errors] == [FileNotFoundError]


def test_a_full_disk_leaves_what_is_there(tmp_path: Path) -> None:
    # A limit on the size of files refuses a write as a full disk does.
    code = (
        "import pathlib, resource, signal, sys\n"
        "from trainer.data.disk_cache import DiskCache\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "cache = DiskCache(pathlib.Path(sys.argv[1]), 10**6, on_failure=lambda e: print(1))\n"
        "cache.put('a', bytes(100))\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))\n"
        "cache.put('b', bytes(2000))\n"
        "cache.put('c', bytes(2000))\n"
        "assert cache.get('a') == bytes(100)\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    child = subprocess.run(command, timeout=60, capture_output=True, text=True)
    assert (child.returncode, child.stdout) == (0, "1\n")
    assert [file.name for file in tmp_path.iterdir()] == ["a"]


def test_the_folder_is_this_users_alone(tmp_path: Path) -> None:
    folder = private_folder(tmp_path)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert private_folder(tmp_path) == folder
    folder.chmod(0o777)
    with pytest.raises(PermissionError, match="this user alone"):
        private_folder(tmp_path)


def test_a_link_in_its_place_is_refused(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    (tmp_path / f"trainer-data-{os.geteuid()}").symlink_to(tmp_path / "elsewhere")
    assert open_disk_cache(str(tmp_path), 1000) is None
    assert "disk cache off" in caplog.text


def test_too_little_room_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert open_disk_cache(str(tmp_path), 1000)
    assert not caplog.text
    assert open_disk_cache(str(tmp_path), 1 << 60)
    assert re.search(r"[\d,]+ MB are free in \S+ for 1,152,921,504,606 MB", caplog.text)


def test_no_room_is_no_cache(tmp_path: Path) -> None:
    assert open_disk_cache(str(tmp_path), 0) is None
    assert list(tmp_path.iterdir()) == []
