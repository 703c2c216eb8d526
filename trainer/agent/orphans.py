"""Waits for the processes that an agent inherits as PID 1 of its container.

Whoever loses its parent becomes a child of PID 1, and after its end a zombie until PID 1 waits for
it: processes that a killed worker had started, or that somebody started in the container. The
kernel counts zombies against the container's limit of processes. Linux only, as containers are.
"""

import os
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_PROC = Path("/proc")
_EVERY_SECONDS = 5.0
# In /proc/PID/stat, from the first field after the name in parentheses.
_STATE, _PARENT, _START_TIME = 0, 1, 19


class Orphans:
    """Zombies among this process's children that nobody waits for."""

    def __init__(self) -> None:
        self._seen: set[tuple[int, str]] = set()

    def reap(self) -> None:
        """Wait for those that were zombies at the last call, too.

        Others are left alone: an agent waits for its own children, but may need a moment for it.
        """
        zombies = set(_zombies(os.getpid()))
        for pid, _ in zombies & self._seen:
            with suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
        self._seen = zombies - self._seen


def reap_orphans() -> None:
    """As PID 1, reap every few seconds from now on; else nothing, as another process does it."""
    if os.getpid() == 1:
        threading.Thread(target=_reap_for_ever, name="orphans", daemon=True).start()


def _reap_for_ever() -> None:
    orphans, pause = Orphans(), threading.Event()
    while not pause.wait(_EVERY_SECONDS):
        orphans.reap()


def _zombies(parent: int) -> Iterator[tuple[int, str]]:
    """Ended children by number and start time, because numbers are used again."""
    for folder in _PROC.glob("[0-9]*"):
        with suppress(OSError):  # it has ended meanwhile
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            if fields[_STATE] == "Z" and int(fields[_PARENT]) == parent:
                yield int(folder.name), fields[_START_TIME]
