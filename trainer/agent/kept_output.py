"""Keeps the end of what the workers of one agent print in the run's folder."""

import asyncio
import os
import threading
from collections.abc import Callable
from typing import Any

from trainer.agent.output import Output
from trainer.agent.threads import in_thread
from trainer.errors import StorageError
from trainer.redaction import redacted
from trainer.run.logs import KeptLog, folder_of, kept_logs
from trainer.storage import Storage

_EVERY_SECONDS = 60.0
_PATIENCE_SECONDS = 2.0
_MOST_GENERATIONS = 50


class KeptOutput:
    """The output of worker `index`, unless `storage` is None; nothing depends on it.

    What cannot be written is told once, and a store that does not answer is waited for two
    seconds, at the end alone.
    """

    def __init__(self, storage: Storage | None, index: int, log: Any) -> None:
        self._storage = storage
        self._index = index
        self._log = log
        self._writing = threading.Lock()
        self._is_told = False
        self._generation: int | None = None  # that was written last
        self._last: asyncio.Task[None] | None = None

    async def keep(self, generation: Callable[[], int | None], output: Output) -> None:
        """Write it again and again; the generation is None until it is known."""
        kept = b""
        while True:
            await asyncio.sleep(_EVERY_SECONDS)
            number, end = generation(), output.end()
            if number is not None and end != kept:
                kept = end
                self.write(number, end)

    def write(self, generation: int, output: bytes) -> None:
        """Beside whatever else is done."""
        if self._storage is not None:
            writing = in_thread(self._write, self._storage, generation, output)
            self._last = asyncio.create_task(writing)

    async def close(self) -> None:
        """Wait for what is being written."""
        if self._last is not None:
            await asyncio.wait({self._last}, timeout=_PATIENCE_SECONDS)

    def _write(self, storage: Storage, generation: int, output: bytes) -> None:
        try:
            with self._writing:
                path = KeptLog(generation, self._index).path
                storage.write(path, redacted(output, os.environ))
                if generation != self._generation:
                    self._generation = generation
                    self._delete_old(storage)
        except StorageError as error:
            if not self._is_told:
                self._log.warning("log not kept", reason=str(error))
            self._is_told = True

    def _delete_old(self, storage: Storage) -> None:
        for log in kept_logs(storage, folder_of(self._index))[:-_MOST_GENERATIONS]:
            storage.delete(log.path)
