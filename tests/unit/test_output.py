"""What a worker prints: passed on by its agent, and its end kept."""

import os
import pty
import signal
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from trainer.agent.output import MOST_BYTES

_AGENT = """
import subprocess, sys
from pathlib import Path
import trainer.agent.output
from trainer.agent.process import WorkerProcess

trainer.agent.output._DRAIN_SECONDS = 60  # a test that waits for it fails

def spawn(arguments, channel, output, environ):
    process = subprocess.Popen(arguments, stdout=output[0], stderr=output[1])
    process.returncode = 0
    return process.pid

kept, *command = sys.argv[1:]
worker = WorkerProcess(spawn, command, {})
code = worker.ended.result(30)
Path(kept).write_bytes(worker.output.end())
print("ended", code, flush=True)
"""


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """Where an agent leaves what it has kept."""
    return tmp_path / "kept"


def agent_of(kept: Path, *command: str) -> list[str]:
    return [sys.executable, "-c", _AGENT, str(kept), *command]


def run(kept: Path, script: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(agent_of(kept, "sh", "-c", script), capture_output=True, timeout=60)


def test_each_stream_goes_where_it_did_and_both_are_kept(kept: Path) -> None:
    done = run(kept, "echo out; echo error >&2; kill -9 $$")
    assert done.stdout == b"out\nended -9\n"
    assert done.stderr == b"error\n"
    assert sorted(kept.read_text().splitlines()) == ["error", "out"]


def test_of_much_the_end_is_kept_from_the_beginning_of_a_line(kept: Path) -> None:
    done = run(kept, "seq 1 500000")
    assert done.stdout.count(b"\n") == 500_001
    lines = kept.read_bytes().splitlines()
    assert MOST_BYTES - 10 < kept.stat().st_size <= MOST_BYTES
    assert lines == [b"%d" % i for i in range(500_001 - len(lines), 500_001)]


def test_a_bar_that_moves_in_one_line_is_kept(kept: Path) -> None:
    run(kept, "seq 1 300000 | tr '\\n' '\\r'")
    steps = kept.read_bytes().split(b"\r")
    assert steps[-2:] == [b"300000", b""]
    assert steps == [b"%d" % i for i in range(300_002 - len(steps), 300_001)] + [b""]


def test_a_line_without_an_end_is_kept(kept: Path) -> None:
    run(kept, "head -c 2000000 /dev/zero | tr '\\0' x")
    assert kept.read_bytes() == b"x" * MOST_BYTES


def test_what_a_worker_has_started_is_not_waited_for(kept: Path) -> None:
    done = run(kept, "sleep 60 & echo $!")
    number, ended = done.stdout.split(b"\n")[:2]
    os.kill(int(number), signal.SIGKILL)  # it still ran, and had the streams
    assert ended == b"ended 0"


def test_a_worker_goes_on_when_nobody_reads(kept: Path) -> None:
    with subprocess.Popen(
        agent_of(kept, "sh", "-c", "read line; seq 1 50000; exit 3"),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        process.stdout.close()
        process.communicate(b"go\n", timeout=60)
    assert kept.read_bytes().endswith(b"\n50000\n")


def test_on_a_terminal_it_sees_one_of_the_same_size(kept: Path) -> None:
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (33, 77))
    with subprocess.Popen(
        agent_of(kept, "sh", "-c", "stty size <&1; printf 'a\\rb\\n'; test -t 2 && exit 5"),
        stdout=theirs, stderr=theirs,
    ) as process:  # fmt: skip
        process.wait(timeout=60)
    os.close(theirs)
    assert os.read(ours, 1000) == b"33 77\r\na\rb\r\nended 5\r\n"
    os.close(ours)
    assert kept.read_bytes() == b"33 77\na\rb\n"
