"""A run's curves, kept in its folder: one object a life of its workers.

It is written anew while the life lasts: with each checkpoint, so that a kill loses only what is
made again, and now and then; it stays as it is after that.
"""

import logging
import threading
import time
from collections.abc import Callable
from functools import partial

from pydantic import TypeAdapter, ValidationError

from trainer.errors import ObjectNotFoundError, StorageError
from trainer.run.curves import Frozen, LifeCurves, Recorder
from trainer.storage import Entry, Storage
from trainer.storage.parallel import in_parallel

CURVES = "curves"
MOST_BYTES = 16 << 20
_FIRST_SECONDS, _EVERY_SECONDS = 1.0, 20.0
_REST = 100  # times the seconds of processor time that a write took

_JSON = TypeAdapter(LifeCurves)
_log = logging.getLogger(__name__)


class RunCurves:
    """The curves of one life, which `fence` numbers; without a storage, none are kept.

    Nothing depends on them: a store that refuses them is told of once, one that does not answer
    is waited for `patience` seconds, at the end alone. clock: monotonic.
    """

    def __init__(
        self, storage: Storage | None, fence: int, *,
        clock: Callable[[], float] = time.monotonic, patience: float = 2.0,
    ) -> None:  # fmt: skip
        self.recorder = None if storage is None else Recorder(fence)
        self._storage = storage
        self._path = f"{CURVES}/{fence:06d}.json"
        self._clock, self._patience = clock, patience
        self._due = clock() + _FIRST_SECONDS
        self._rested = float("-inf")
        # The saving thread and the training one may both want to begin a writer.
        self._beginning = threading.Lock()
        self._writer: threading.Thread | None = None
        self._has_told = False

    def write_if_due(self) -> bool:
        """Write beside training, if it is time; returns whether it was."""
        if self._clock() < self._due:
            return False
        self._due = self._clock() + _EVERY_SECONDS
        with self._beginning:
            if self._writer is None or not self._writer.is_alive():
                self._begin()
        return True

    def saved(self) -> None:
        """A checkpoint was committed; called by the saving thread. Write, if not too often."""
        if self._clock() >= self._rested:
            self._due = float("-inf")
            self.write_if_due()
        else:
            self._due = min(self._due, self._rested)

    def close(self) -> None:
        """Write all, if the store answers in time."""
        with self._beginning:
            if self._is_idle():  # what was under way is older
                self._begin()
                self._is_idle()

    def _is_idle(self) -> bool:
        """Whether nothing is being written, after a while at most."""
        if self._writer is not None:
            self._writer.join(self._patience)
        return self._writer is None or not self._writer.is_alive()

    def _begin(self) -> None:
        if self._storage is None or self.recorder is None:
            return
        # A daemon: neither a stop nor the end of the process waits for a store that is down.
        self._writer = threading.Thread(
            target=self._write, args=(self._storage, self.recorder.frozen()), name="curves",
            daemon=True,
        )  # fmt: skip
        self._writer.start()

    def _write(self, storage: Storage, frozen: Frozen) -> None:
        try:
            storage.write(self._path, _JSON.dump_json(frozen.life()))
            rest = min(_REST * time.thread_time(), _EVERY_SECONDS)
            self._rested = self._clock() + rest
        except StorageError as error:
            if not self._has_told:
                self._has_told = True
                _log.warning("curves are not kept: %s", error)


def read(storage: Storage, *, last: int = 0) -> tuple[list[LifeCurves], list[str]]:
    """The curves of each life of the run whose folder `storage` is, and what cannot be read.

    last: of so many lives alone; 0 for all. Raises StorageError.
    """
    entries = list(storage.list(CURVES))[-last:]
    found = in_parallel([partial(_read, storage, entry) for entry in entries])
    lives = [life for life in found if isinstance(life, LifeCurves)]
    return lives, [problem for problem in found if isinstance(problem, str)]


def _read(storage: Storage, entry: Entry) -> LifeCurves | str | None:
    try:
        if entry.size > MOST_BYTES:
            return f"{entry.path} is larger than {MOST_BYTES} bytes"
        return _JSON.validate_json(storage.read(entry.path))
    except ObjectNotFoundError:  # the run is deleted just now
        return None
    except ValidationError:
        return f"{entry.path} is damaged"
