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
_LATEST = 1e11  # a Unix time whose year has four digits

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


def read(storage: Storage) -> tuple[dict[int, list[Event]], list[str]]:
    """The events of each life of the run whose folder `storage` is, and what cannot be read.

    An event has `time`, `event`, and fields; a line that is none is left out. Raises StorageError.
    """
    files = {entry: _number(entry.path) for entry in storage.list(EVENTS)}
    lives = {entry: number for entry, number in files.items() if number is not None}
    found = in_parallel([partial(_read, storage, entry) for entry in lives])
    events = {number: each for number, (each, _) in zip(lives.values(), found, strict=True)}
    return events, [problem for _, problem in found if problem]


def _number(path: str) -> int | None:
    """The life whose events are there; None of somebody's copy or note."""
    name = path.removeprefix(f"{EVENTS}/").removesuffix(".jsonl")
    number = int(name) if name.isascii() and name.isdigit() and len(name) < 17 else None
    return number if number is not None and path == f"{EVENTS}/{number:06d}.jsonl" else None


def _read(storage: Storage, entry: Entry) -> tuple[list[Event], str]:
    place = f"{entry.path} in {storage.url}"
    if entry.size > MOST_BYTES:
        return [], f"{place} is damaged (larger than {MOST_BYTES} bytes)"
    try:
        lines = storage.read(entry.path).decode(errors="replace").split("\n")
    except ObjectNotFoundError:  # the run is deleted just now
        return [], ""
    events = [_parse(line) for line in lines if line.strip()]
    known = [event for event in events if event is not None]
    num_lost = len(events) - len(known)
    return known, f"{place} is damaged ({num_lost} lines are no events)" if num_lost else ""


def _parse(line: str) -> Event | None:
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        return None
    is_event = isinstance(event, dict) and isinstance(event.get("event"), str)
    return event if is_event and _is_time(event.get("time")) else None


def _is_time(value: Any) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and 0 <= value <= _LATEST
