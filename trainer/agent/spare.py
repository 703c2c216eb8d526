"""A worker that imports TensorFlow before it is known for what: the next one."""

import logging
from collections.abc import Callable

from trainer.agent.process import WorkerProcess

_log = logging.getLogger(__name__)


class Spare:
    """At most one; `start` makes a process that waits for `WorkerProcess.go`."""

    def __init__(self, start: Callable[[], WorkerProcess]) -> None:
        self._start = start
        self._process: WorkerProcess | None = None

    def prepare(self) -> None:
        """Have one, from soon on, where the machine has room for it."""
        if self._process is None or self._process.ended.done():
            try:
                self._process = self._start()
            except OSError as error:
                _log.warning("no spare worker: %s", error)

    def take(self) -> WorkerProcess | None:
        """The one there is, which may still import; None without one, or when it has ended."""
        process, self._process = self._process, None
        return None if process is None or process.ended.done() else process

    def close(self) -> None:
        """End it."""
        if (process := self.take()) is not None:
            process.kill()
