"""A process on a terminal of its own, and what it shows there."""

import os
import pty
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass


@dataclass
class Terminal:
    """`shown` is what was read so far."""

    process: "subprocess.Popen[bytes]"
    descriptor: int
    shown: bytes = b""

    def read(self, until: bytes | None = None) -> str:
        """What is shown up to the end of the process, or until it holds `until`."""
        # Without a writer, Linux reports an error in the place of an end.
        with suppress(OSError):
            while (until is None or until not in self.shown) and (
                more := os.read(self.descriptor, 4096)
            ):
                self.shown += more
        return self.shown.decode()


@contextmanager
def on_terminal(command: Sequence[str], *, columns: int) -> Iterator[Terminal]:
    """Start a process, whose end is waited for."""
    ours, theirs = pty.openpty()
    environ = {**os.environ, "TERM": "xterm", "COLUMNS": str(columns)}
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=theirs, env=environ) as process:
        os.close(theirs)
        yield Terminal(process, ours)
    os.close(ours)
