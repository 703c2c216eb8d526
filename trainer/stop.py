"""SIGTERM and Ctrl-C: finish the step, save, leave; the second one leaves at once.

While nothing would be lost (imports, the first trace, the export of a committed run) the first
signal leaves at once, too.
"""

import os
import signal
import time
from collections.abc import Callable
from types import FrameType
from typing import Any, NoReturn

_HANDLED = (signal.SIGTERM, signal.SIGINT)
_SHOW_CURSOR = b"\x1b[?25h"
_NOTHING_LOST = b"\ntrainer: stopped, nothing is lost: the same command goes on\n"


class Interrupted(KeyboardInterrupt):
    """Ctrl-C in a process that goes on after it."""


class StopRequest:
    """Set by a signal; asked by the training loop between calls.

    outlives: the process goes on after Ctrl-C, as that of a notebook does: where nothing is to be
    saved, and the second time, it raises Interrupted.
    """

    def __init__(
        self, *, clock: Callable[[], float] = time.monotonic, outlives: bool = False
    ) -> None:
        self._clock = clock
        self._outlives = outlives
        self._is_deferred = False
        self._since: float | None = None
        self.signal: int | None = None

    def install(self) -> None:
        """Take over SIGTERM and SIGINT; again after TensorFlow replaced the handlers."""
        for number in _HANDLED:
            signal.signal(number, self._handle)

    def defer(self, deferred: bool) -> None:
        """Whether there is work worth saving, so that a signal waits for the loop to ask."""
        self._is_deferred = deferred
        if not deferred and self.is_set:
            self._end(self.exit_code - 128, _NOTHING_LOST)

    @property
    def is_set(self) -> bool:
        """Whether to stop."""
        return self.signal is not None

    @property
    def exit_code(self) -> int:
        """128 + the signal's number, as shells report it."""
        return 128 + (self.signal or signal.SIGTERM)

    def agree(self) -> None:
        """Another worker was told to stop, and all of them do; no signal came here, or not yet."""
        if self._since is None:
            self._since = self._clock()

    def forget(self) -> None:
        """Whoever was told to stop goes on after all, as a notebook does."""
        self.signal = self._since = None

    def seconds_since(self) -> float:
        """Seconds since it was known that there is a stop; 0 while there is none."""
        return 0.0 if self._since is None else self._clock() - self._since

    def _handle(self, number: int, _frame: FrameType | None) -> Any:
        if self.is_set or not self._is_deferred:
            self._end(number, b"" if self.is_set else _NOTHING_LOST)
        self.signal = number
        self.agree()

    def _end(self, number: int, message: bytes) -> NoReturn:
        if self._outlives and number == signal.SIGINT:
            raise Interrupted
        _leave(128 + number, message)


def _leave(code: int, message: bytes) -> NoReturn:
    if os.isatty(1):
        # A progress bar hides it. Written without the bar, which may be in the middle of a line.
        os.write(1, _SHOW_CURSOR + message)
    # Not sys.exit: the interpreter may be inside an import or a native call's callback.
    os._exit(code)
