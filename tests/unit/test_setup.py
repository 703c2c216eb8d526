"""scripts/setup.py: which machines and Pythons are refused, and what is said of a failure."""

import importlib.util
import re
import sys
from pathlib import Path

import pytest

from tests.terminal import on_terminal

SCRIPT = Path(__file__).parents[2] / "scripts" / "setup.py"
spec = importlib.util.spec_from_file_location("setup_script", SCRIPT)
assert spec is not None
assert spec.loader is not None
setup = importlib.util.module_from_spec(spec)
spec.loader.exec_module(setup)


@pytest.mark.parametrize(
    ("system", "machine", "version", "libc", "way_out"),
    [
        ("Linux", "x86_64", (3, 11), "glibc", None),
        ("Linux", "aarch64", (3, 13), "glibc", None),
        ("Darwin", "arm64", (3, 12), "", None),
        ("Linux", "x86_64", (3, 10), "glibc", "make PYTHON=python3.13"),
        ("Linux", "x86_64", (3, 6), "glibc", "install Python 3.11 to 3.13"),
        ("Darwin", "arm64", (3, 14), "", "install Python 3.11 to 3.13"),
        ("Windows", "AMD64", (3, 12), "", "WSL2"),
        ("MSYS_NT-10.0", "x86_64", (3, 12), "", "WSL2"),
        ("Darwin", "x86_64", (3, 12), "", "container"),
        ("Linux", "armv7l", (3, 12), "glibc", "x86_64 or aarch64"),
        ("FreeBSD", "amd64", (3, 12), "", "x86_64 or aarch64"),
        ("Linux", "x86_64", (3, 12), "", "without glibc"),
    ],
)
def test_refusal_names_the_way_out(system, machine, version, libc, way_out):
    refused = setup.refusal(system, machine, version, libc=libc)
    if way_out is None:
        assert refused is None
    else:
        assert way_out in refused


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ("WARNING: Retrying ... NewConnectionError('<HTTPSConnection>: ...')", "no network"),
        ("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE.", "damaged"),
        ("OSError: [Errno 28] No space left on device", "disk is full"),
        ("ERROR: No matching distribution found for click==0", "lacks a locked version"),
        ("something never seen", "setup.log"),
    ],
)
def test_a_failure_says_what_to_do(output, expected):
    assert expected in setup.advice(output)


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ("", ""),
        ("Collecting a==1\n  Running setup.py\nCollecting b_c==2 (from x)\n", "package 2, b_c"),
        ("Collecting a==1\nInstalling collected packages: a\n", "unpacking"),
    ],
)
def test_the_status_says_where_pip_is(output, expected):
    assert expected in setup.doing(output)


PIP_LIKE = "import time; print('Collecting ' + 'x' * 200 + '==1', flush=True); time.sleep(2.5)"
RUN_IT = f"""
import sys; sys.path.insert(0, {str(SCRIPT.parent)!r})
import pathlib, setup
setup.LOG = pathlib.Path(sys.argv[1])
setup.run("Installing", [sys.executable, "-c", {PIP_LIKE!r}])
"""


def test_the_status_keeps_to_one_row_of_the_terminal(tmp_path):
    command = [sys.executable, "-c", RUN_IT, str(tmp_path / "log")]
    with on_terminal(command, columns=60) as terminal:
        shown = terminal.read()
    assert terminal.process.returncode == 0
    rows = re.split(r"\r\x1b\[K", shown)
    assert any("fetching package 1, xxx" in row for row in rows)
    assert max(map(len, rows)) < 60
