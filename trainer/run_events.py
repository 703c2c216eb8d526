"""What happened to a run, kept in its folder: one file a life of its worker, one line an event.

A store cannot append, so a file is written anew with each event; there are few of them in a life.
"""

import json
import logging
import os
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from trainer.errors import ObjectNotFoundError, StorageError
from trainer.redaction import redacted_text
from trainer.storage import Entry, Storage
from trainer.storage.parallel import in_parallel

EVENTS = "events"
MOST_BYTES = 4 << 20

Event = dict[str, Any]

_log = logging.getLogger(__name__)


class RunEvents:
    """The events of one life, which `fence` numbers.

    Nothing depends on them: one that cannot be written is only told, and a store that does not
    answer is waited for `patience` seconds. Without a storage, none is kept.
    """

    def __init__(
        self, storage: Storage | None, fence: int, *,
        clock: Callable[[], float] = time.time, patience: float = 2.0,
    ) -> None:  # fmt: skip
        self._patience = patience
        self._writing = threading.Lock()
        self._storage = storage
        self._path = f"{EVENTS}/{fence:06d}.jsonl"
        self._clock = clock
        self._lines: list[str] = []

    def add(self, event: str, **fields: Any) -> None:
        """Keep an event, with the time and what is known of it (plain JSON data)."""
        storage = self._storage
        if storage is None:
            return
        time = round(self._clock(), 3)
        told = {
            name: redacted_text(value, os.environ) if isinstance(value, str) else value
            for name, value in fields.items()
        }
        self._lines.append(json.dumps({"time": time, "event": event, **told}) + "\n")
        # A daemon: neither a stop nor the end of the process waits for a store that is down.
        writer = threading.Thread(
            target=self._write, args=(storage, event), name="events", daemon=True
        )
        writer.start()
        writer.join(self._patience)

    def _write(self, storage: Storage, event: str) -> None:
        try:
            with self._writing:
                storage.write(self._path, "".join(self._lines).encode())
        except StorageError as error:
            _log.warning("event '%s' was not kept: %s", event, error)


def read(storage: Storage) -> dict[int, list[Event]]:
    """The events of each life of the run whose folder `storage` is: `time`, `event`, and fields.

    A line that is none is left out. Raises StorageError.
    """
    files = {entry: _number(entry.path) for entry in storage.list(EVENTS)}
    lives = [entry for entry in files if files[entry] is not None and entry.size <= MOST_BYTES]
    texts = in_parallel([partial(_read, storage, entry) for entry in lives])
    return {
        files[entry] or 0: [event for line in text.splitlines() if (event := _parse(line))]
        for entry, text in zip(lives, texts, strict=True)
    }


def _number(path: str) -> int | None:
    name = path.rpartition("/")[2].removesuffix(".jsonl")
    return int(name) if name.isascii() and name.isdigit() and len(name) < 19 else None


def _read(storage: Storage, entry: Entry) -> str:
    try:
        return storage.read(entry.path).decode(errors="replace")
    except ObjectNotFoundError:  # the run is deleted just now
        return ""


def _parse(line: str) -> Event | None:
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        return None
    is_event = isinstance(event, dict) and isinstance(event.get("event"), str)
    return event if is_event and isinstance(event.get("time"), int | float) else None
