"""Two trainings that take turns: each in a process of its own, some epochs at a time.

A child trains as a user would, for ever; the callback below stops it between epochs until it is
told to go on. So both are in their steady state, compiled and warm, and neighbours in time.
"""

import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import keras


class TurnTaker(keras.callbacks.Callback):  # type: ignore[misc]
    """Trains so many epochs when a byte arrives on `go`, then writes their seconds to `done`."""

    stateless = True

    def __init__(self, go: int, done: int, epochs: int) -> None:
        super().__init__()
        self._go, self._done, self._epochs = go, done, epochs
        self._started: float | None = None

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        """End one turn, wait for the next."""
        if epoch % self._epochs:
            return
        if self._started is not None:
            _wait_for_save()
            os.write(self._done, f"{time.perf_counter() - self._started!r}\n".encode())
        if not os.read(self._go, 1):
            os._exit(0)
        self._started = time.perf_counter()


def _wait_for_save() -> None:
    # Whose save it is, shall pay for it: it must not run during the other's turn.
    for thread in threading.enumerate():
        if thread.name == "saver":
            thread.join()


@contextmanager
def child(
    command: Callable[[int, int], Sequence[str]], environ: Mapping[str, str] | None = None
) -> Iterator[Callable[[], float]]:
    """Start `command(go, done)`; yields a function that lets it train a turn: seconds.

    environ: added to this process's environment.
    """
    theirs_go, go = os.pipe()
    done, theirs_done = os.pipe()
    process = subprocess.Popen(
        list(command(theirs_go, theirs_done)), pass_fds=(theirs_go, theirs_done),
        stdout=subprocess.DEVNULL, env={**os.environ, **(environ or {})},
    )  # fmt: skip
    os.close(theirs_go)
    os.close(theirs_done)

    def turn() -> float:
        os.write(go, b"g")
        line = results.readline()
        if not line:
            raise RuntimeError(f"{process.args!r} ended with {process.wait()}: run it by hand")
        return float(line)

    with os.fdopen(done, encoding="ascii") as results:
        try:
            yield turn
        finally:
            os.close(go)
            process.kill()
            process.wait()
