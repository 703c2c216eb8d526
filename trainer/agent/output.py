"""What a worker prints goes to where its agent prints, and the end of it is kept."""

import fcntl
import io
import os
import pty
import re
import selectors
import sys
import termios
import threading
import tty
from contextlib import suppress
from typing import Any

MOST_BYTES = 1 << 20
_CHUNK_BYTES = 1 << 16
_DRAIN_SECONDS = 2.0
_BEGINNING = re.compile(rb"\A[^\r\n]*(\r\n|\r|\n)")


class Output:
    """The standard output and error of one process.

    `theirs` are the file descriptors (of output and error) for it, terminals where the agent's
    are; `attached()` is to be called when it has them, and `drain()` when it has ended.
    """

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        sinks = _below(sys.stdout, 1), _below(sys.stderr, 2)
        pairs = [_open_like(sink) for sink in sinks]
        self.theirs = (pairs[0][1], pairs[1][1])
        self._sinks = {pair[0]: sink for pair, sink in zip(pairs, sinks, strict=True)}
        self._most_bytes = most_bytes
        self._end = bytearray()
        self._lock = threading.Lock()
        self._wakes, self._wake = os.pipe()
        self._is_drained = threading.Event()

    def attached(self) -> None:
        """Begin to pass on what the process prints, by a thread."""
        for descriptor in self.theirs:
            os.close(descriptor)
        threading.Thread(target=self._pass_on, name="output", daemon=True).start()

    def drain(self) -> None:
        """Wait until all that was printed up to now is passed on, if somebody takes it.

        Not until nobody can print any more: what the process has started may outlive it.
        """
        os.write(self._wake, b".")
        if self._is_drained.wait(_DRAIN_SECONDS):
            os.close(self._wake)
            os.close(self._wakes)

    def end(self) -> bytes:
        """The last that was printed, `most_bytes` at most, from the beginning of a line.

        A bar that moves by carriage returns may be all that there is: each of them begins a line.
        """
        with self._lock:
            end = bytes(self._end)
        if len(end) <= self._most_bytes:
            return end
        kept = end[-self._most_bytes :]
        return _BEGINNING.sub(b"", kept, count=1) or kept

    def _pass_on(self) -> None:
        is_over, left = False, set(self._sinks)
        with selectors.DefaultSelector() as waiting:
            for source in (*left, self._wakes):
                waiting.register(source, selectors.EVENT_READ)
            while left:
                ready = {key.fd for key, _ in waiting.select(0 if is_over else None)}
                if is_over and not ready:
                    is_over = False
                    self._is_drained.set()
                if self._wakes in ready:
                    is_over = True
                    waiting.unregister(self._wakes)
                for source in ready & left:
                    if not self._pass_chunk(source):
                        left.remove(source)
                        waiting.unregister(source)
                        os.close(source)
        self._is_drained.set()

    def _pass_chunk(self, source: int) -> bool:
        """Whether there may be more."""
        try:
            data = os.read(source, _CHUNK_BYTES)
        except OSError:  # a terminal without a process
            return False
        with self._lock:
            self._end += data
            if len(self._end) > 2 * self._most_bytes:
                del self._end[: -self._most_bytes - 1]
        if data:
            _write(self._sinks[source], data)
        return bool(data)


def _below(stream: Any, number: int) -> io.RawIOBase:
    """What writes for a standard stream, at once; it may remember why it could not."""
    raw = getattr(getattr(stream, "buffer", None), "raw", None)
    return raw if isinstance(raw, io.RawIOBase) else io.FileIO(number, "w", closefd=False)


def _open_like(sink: io.RawIOBase) -> tuple[int, int]:
    """What reads and what is printed to; a terminal of the same size where `sink` is one."""
    if not sink.isatty():
        return os.pipe()
    reads, prints = pty.openpty()
    tty.setraw(prints)  # lines end as they were printed, and the real one adds what it wants
    with suppress(OSError):
        fcntl.ioctl(prints, termios.TIOCSWINSZ, fcntl.ioctl(sink, termios.TIOCGWINSZ, bytes(8)))
    return reads, prints


def _write(sink: io.RawIOBase, data: bytes) -> None:
    """All of it, as long as somebody wants it: training goes on when nobody does."""
    with suppress(OSError):
        while data and (written := sink.write(data)):
            data = data[written:]
