"""Who may write to a run: a lease on its folder, and the fence that outlives the lease.

A second job of the same run is refused while the first one refreshes its lease. That alone
cannot hold back a holder that was frozen and wakes up late: a store can make no commit depend
on a lease. So every take-over raises the *fence*, a number that checkpoints carry. A restore
goes by (fence, step), and what a lower fence commits after it was taken over is beyond its
limit: never restored. Times are judged by the store's own clock.
"""

import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field, ValidationError

from trainer.checkpoint.holder import Holder, is_alive
from trainer.config import Section
from trainer.errors import CheckpointError, ObjectNotFoundError, RunHeldError, StorageError
from trainer.storage.base import Entry, Storage

LEASE_FILE = "lease.json"
# Written for its time stamp alone.
CLOCK_FILE = "lease.clock"
_MAX_BYTES = 1 << 20
_POLL_SECONDS = 2.0
_RELEASE_SECONDS = 2.0
_RACE_SECONDS = 0.05
_MOST_TRIES = 100

_log = logging.getLogger(__name__)


class _Document(Section):
    format: Literal[1] = 1
    holder: Holder
    fence: int = Field(ge=1)
    ttl_seconds: float = Field(gt=0)
    is_released: bool = False
    refreshed: int = 0
    # The last step of each lower fence that counts; none of its steps counts below 0.
    limits: dict[int, int] = Field(default_factory=dict)


@dataclass(frozen=True)
class Timing:
    """Seconds. ttl: without a refresh a lease ends; grace: added while waiting for that end."""

    ttl: float = 60.0
    grace: float = 60.0

    @property
    def refresh(self) -> float:
        """Between two refreshes: two may fail."""
        return self.ttl / 3


class Lease:
    """A lease that is held; made by `acquire`. Safe to share between threads.

    `fence` is the number that this holder's checkpoints carry, `limits` the last step of each
    lower fence that counts.
    """

    def __init__(self, storage: Storage, document: _Document, entry: Entry) -> None:
        self.fence = document.fence
        self.limits = dict(document.limits)
        self._storage = storage
        self._document = document
        self._entry = entry
        # What a store may hold although it did not say so: its replies were lost.
        self._tried: list[_Document] = []
        self._lock = threading.Lock()
        self._lost: RunHeldError | None = None

    def check(self) -> None:
        """RunHeldError when somebody is known to have taken the run over; asks nobody."""
        if self._lost is not None:
            raise self._lost

    def refresh(self) -> None:
        """Hold on for another time to live.

        Raises RunHeldError when somebody took the run over, StorageError when the store does
        not answer: try again.
        """
        self._put(refreshed=self._document.refreshed + 1)

    def restored(self, fence: int, step: int) -> None:
        """Record what this fence goes on from (step -1: from nothing): what lower fences commit
        beyond it is not a candidate any more. Raises like `refresh`.
        """
        news = dict.fromkeys(range(fence + 1, self.fence), -1) | {fence: step}
        for lower, limit in news.items():
            self.limits[lower] = min(limit, self.limits.get(lower, limit))
        self._put(limits=dict(self.limits))

    def raise_fence(self) -> None:
        """Begin a new life of the same holder: what the one before commits late is beyond it.

        Raises like `refresh`.
        """
        self._put(fence=self.fence + 1)
        self.fence = self._document.fence

    def release(self) -> None:
        """Give the run back; one that was lost is left to its holder."""
        with suppress(RunHeldError):
            self._put(is_released=True)

    @contextmanager
    def kept(self, timing: Timing) -> Iterator[None]:
        """Refreshed by a thread while the context lasts, and then released.

        That thread alone waits for a store that does not answer: the process may end before it,
        and the lease then runs out.
        """
        is_over = threading.Event()
        keeper = threading.Thread(
            target=self._keep, args=(is_over, timing.refresh), name="lease", daemon=True
        )
        keeper.start()
        try:
            yield
        finally:
            is_over.set()
            keeper.join(_RELEASE_SECONDS)
            if keeper.is_alive():
                _log.warning("the run was not released in time, its lease will run out")

    def _keep(self, is_over: threading.Event, seconds: float) -> None:
        while not is_over.wait(seconds):
            try:
                self.refresh()
            except RunHeldError:
                return
            except StorageError as error:
                # Without it somebody else may take over, and this holder's fence is then too low.
                _log.warning("the run's lease was not refreshed: %s", error)
        try:
            self.release()
        except StorageError as error:
            _log.warning("the run was not released, its lease will run out: %s", error)

    def _put(self, **changes: Any) -> None:
        with self._lock:
            self.check()
            document = self._document.model_copy(update=changes)
            if document not in self._tried:
                self._tried.append(document)
            entry = self._replace(document)
            found = None if entry else _read(self._storage)
            if found is not None and found[0] in (self._document, *self._tried):
                # A copy, a touch, or a try whose reply was lost: what is in it is ours.
                self._entry = found[1]
                entry = self._replace(document)
            if entry is None:
                theirs = f" by {found[0].holder} (fence {found[0].fence})" if found else ""
                self._lost = RunHeldError(
                    f"run {self._storage.url} was taken over{theirs}: this process stops; nothing "
                    "that it saved before is lost"
                )
                raise self._lost
            self._document, self._entry = document, entry
            self._tried.clear()

    def _replace(self, document: _Document) -> Entry | None:
        return self._storage.replace(LEASE_FILE, _encode(document), version=self._entry.version)


def acquire(
    storage: Storage,
    holder: Holder,
    timing: Timing = Timing(),
    *,
    above: int = 0,
    on_wait: Callable[[str], None] = lambda _reason: None,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Lease:
    """Hold the run whose folder `storage` is.

    A lease that was released, that ran out, or whose process is known to be dead is taken over
    at once, as is that of another pod of the same job. A live one of another job is waited for,
    `timing.ttl + timing.grace` seconds: a pod that is about to end may still hold it. The fence is
    higher than that of the lease before, and than `above`.

    Raises RunHeldError when it is still held then, or its process is alive on this machine, and
    StorageError when the lease can neither be read nor written.
    """
    deadline = clock() + timing.ttl + timing.grace
    is_told = False
    tries = 0
    while tries < _MOST_TRIES:
        found = _read(storage)
        if found is None:
            document = _Document(holder=holder, fence=above + 1, ttl_seconds=timing.ttl)
            entry = storage.create(LEASE_FILE, _encode(document))
        else:
            theirs, version = found
            age = _held_for(storage, theirs, version, holder)
            if age is not None:
                held = f"run {storage.url} is held by {theirs.holder}, seen {age:.0f} s ago"
                if is_alive(theirs.holder, holder) or clock() >= deadline:
                    raise RunHeldError(f"{held}: wait for its end, stop it, or use another run.dir")
                if not is_told:
                    on_wait(held)
                    is_told = True
                sleep(_POLL_SECONDS)
                continue
            document = _Document(
                holder=holder, fence=max(theirs.fence, above) + 1, ttl_seconds=timing.ttl,
                limits=theirs.limits,
            )  # fmt: skip
            entry = storage.replace(LEASE_FILE, _encode(document), version=version.version)
        if entry is not None:
            return Lease(storage, document, entry)
        # Somebody else was faster, or there is something that is no file.
        tries += 1
        sleep(_RACE_SECONDS)
    raise StorageError(
        f"{LEASE_FILE} in {storage.url} can neither be read nor written: remove what is there"
    )


def limits(storage: Storage) -> dict[int, int]:
    """The last step of each fence that may be restored; a fence that is not named has no limit."""
    found = _read(storage)
    return {} if found is None else found[0].limits


def live_holder(storage: Storage, mine: Holder) -> str | None:
    """Who holds the run and when it was last seen, in words; None when it may be taken over."""
    found = _read(storage)
    age = found and _held_for(storage, *found, mine)
    return None if found is None or age is None else f"{found[0].holder}, seen {age:.0f} s ago"


def seen_holder(storage: Storage, mine: Holder, *, now: float) -> str | None:
    """Who seems to hold the run, in words, judged by the Unix time `now` here: writes nothing."""
    found = _read(storage)
    if found is None or _is_free(found[0], mine) or now - found[1].updated > found[0].ttl_seconds:
        return None
    return str(found[0].holder)


def _held_for(storage: Storage, theirs: _Document, entry: Entry, mine: Holder) -> float | None:
    """Seconds since the holder's last sign of life; None when the lease may be taken over."""
    if _is_free(theirs, mine):
        return None
    age = storage.write(CLOCK_FILE, b"").updated - entry.updated
    # One from the future was copied there, or its store's clock was wrong.
    return None if abs(age) > theirs.ttl_seconds else age


def _is_free(theirs: _Document, mine: Holder) -> bool:
    """Whether it may be taken over, however young it is."""
    is_given = theirs.is_released or mine.is_same_job(theirs.holder)
    return is_given or is_alive(theirs.holder, mine) is False


def _read(storage: Storage) -> tuple[_Document, Entry] | None:
    """The lease and the entry of just this version of it; None when there is none."""
    while True:
        try:
            entry = storage.stat(LEASE_FILE)
            if entry.size > _MAX_BYTES:
                raise ValueError(f"larger than {_MAX_BYTES} bytes")
            data = storage.read(LEASE_FILE)
            if storage.stat(LEASE_FILE).version != entry.version:
                continue
            return _Document.model_validate_json(data), entry
        except ObjectNotFoundError:
            return None
        except ValueError as error:
            reason = "it is no lease" if isinstance(error, ValidationError) else str(error)
            raise CheckpointError(
                f"{LEASE_FILE} in {storage.url} is damaged ({reason}): when no other job trains "
                "this run, delete it"
            ) from None


def _encode(document: _Document) -> bytes:
    return (json.dumps(document.model_dump(mode="json"), indent=2) + "\n").encode()
