"""Processes by their numbers: whose child, in which state."""

import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path


def state_of(pid: int, parent: int | None = None) -> str | None:
    """T stopped, Z ended, others run; None when there is no such process, or no such child."""
    found = _linux(pid) if sys.platform == "linux" else _elsewhere(pid)
    return found[1] if found is not None and parent in (None, found[0]) else None


def send(pid: int, number: int) -> None:
    """A signal, unless the process has gone."""
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def _linux(pid: int) -> tuple[int, str] | None:
    try:
        # After the name, which may hold anything.
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return None
    return int(fields[1]), fields[0].upper()


def _elsewhere(pid: int) -> tuple[int, str] | None:
    command = ["ps", "-o", "ppid=,state=", "-p", str(pid)]
    found = subprocess.run(command, capture_output=True, text=True, check=False).stdout.split()
    return (int(found[0]), found[1][0]) if len(found) == 2 else None
