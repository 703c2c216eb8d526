"""The running parts: starting them, waiting until one answers, noticing that one ended."""

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from k8s.cluster.places import ClusterError

_LAST_LINES = 15


class Processes:
    """The parts by name; each writes a log of its own."""

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, command: list[str]) -> None:
        """Start a part."""
        with (self._logs / f"{name}.log").open("wb") as log:
            self._running[name] = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def wait_for(self, what: str, check: Callable[[], bool], *, seconds: float) -> None:
        """Wait until `check` holds; an error as soon as a part ends, or when the time is over."""
        deadline = time.monotonic() + seconds
        while not check():
            for name, process in self._running.items():
                if process.poll() is not None:
                    raise self._ended(name, process.returncode)
            if time.monotonic() > deadline:
                raise ClusterError(f"{what}: not within {seconds:.0f} s; logs: {self._logs}")
            time.sleep(0.2)

    def watch(self) -> None:
        """Wait until a part ends, and raise that as an error; ends orphans meanwhile."""
        by_pid = {process.pid: name for name, process in self._running.items()}
        while True:
            pid, status = os.wait()
            if pid in by_pid:
                ended = self._running[by_pid[pid]]
                ended.returncode = os.waitstatus_to_exitcode(status)
                raise self._ended(by_pid[pid], ended.returncode)

    def _ended(self, name: str, code: int) -> ClusterError:
        lines = (self._logs / f"{name}.log").read_text(errors="replace").splitlines()
        last = "\n".join(lines[-_LAST_LINES:])
        return ClusterError(f"{name} ended with {code}; the last of {name}.log:\n{last}")
