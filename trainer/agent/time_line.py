"""The group's time line, as agent 0 keeps it: its own seconds, and what its worker tells of its.

Every agent knows its phase; agent 0's alone goes into the run's folder and is counted.
"""

import os
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from trainer.errors import StorageError
from trainer.goodput import MOST_DETAIL, CauseClock, Generation, Spent, down_between
from trainer.metrics import Metrics
from trainer.redaction import redacted_text
from trainer.run.ledger import newest, write
from trainer.storage import Storage

_TICK_SECONDS = 1.0
# So much of the time line is lost with a node, at most.
_WRITE_SECONDS = 5.0
_LAST_WRITE_SECONDS = 5.0
_MOST_UNWRITTEN = 100


class TimeLine:
    """From the agent's start to `close`; a thread writes it now and then. Safe between threads.

    is_kept: not beside agent 0. clock: monotonic; wall: Unix time. Nothing depends on the ledger:
    a store that refuses it is told of once.
    """

    def __init__(
        self, metrics: Metrics, *, is_kept: bool = True, log: Any,
        clock: Callable[[], float] = time.monotonic, wall: Callable[[], float] = time.time,
    ) -> None:  # fmt: skip
        self._metrics, self._is_kept, self._log = metrics, is_kept, log
        self._clock, self._wall = clock, wall
        self._lock = threading.RLock()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="goodput", daemon=True)
        self._storage: Storage | None = None
        self._finished: list[Generation] = []
        self._life: Generation | None = None
        self._has_told = False
        self._is_due = False
        self._written = float("-inf")
        self.workers = 1  # of the life that begins next
        self._reached = 0
        self._begin_anew("startup")

    def _begin_anew(self, cause: str) -> None:
        self._causes = CauseClock(cause, clock=self._clock)
        self._counted: dict[str, float] = {}
        self._before: dict[str, float] = {}  # seconds of this agent's earlier lives
        self._start = self._wall()
        self._show_phase()

    @property
    def reached(self) -> int:
        """The highest step that any life of the run has told of."""
        return self._reached

    def start(self) -> None:
        """Count, and write, from now on."""
        self._thread.start()

    def switch(self, cause: str) -> None:
        """What this agent is at, while no worker says it."""
        with self._lock:
            self._causes.switch(cause)
            self._show_phase()

    def take(self, told: Spent) -> None:
        """What the worker says of its time."""
        with self._lock:
            self._causes.take(told)
            self._show_phase()
            self._count()

    def at_step(self, step: int) -> None:
        """The worker has made it."""
        with self._lock:
            self._reached = max(self._reached, step)
            if self._life is not None and step > self._life.step:
                self._life = replace(self._life, step=step)

    def goes_on(self, storage: Storage, *, waited: bool) -> None:
        """The run is held, for the first time by this agent.

        waited: it was another's until now, whose time line has the seconds until now.
        """
        with self._lock:
            if waited:
                self._begin_anew(self._causes.is_at)
        before = None
        try:
            before = newest(storage)
        except StorageError as error:
            self._tell(error)
        with self._lock:
            self._storage = storage
            if before is not None:
                self._reached = max(before.reached, before.step)
                self._metrics.goodput_seconds["down"].inc(down_between(before, self._start))

    def begin(self, number: int) -> None:
        """A life of the workers begins; before the first one, the agent's own start is in it."""
        with self._lock:
            if self._life is not None:
                self._finished = [*self._finished, self._now(self._life)][-_MOST_UNWRITTEN:]
                self._before = self._causes.totals()
                self._start = self._finished[-1].end
            self._life = Generation(number, self._start, self._start, {}, workers=self.workers)
            self._is_due = True
            self._metrics.generation.set(number)

    def worker_ended(self, *, is_broken_off: bool) -> None:
        """There is none now. What a call of steps that was broken off had done is lost."""
        with self._lock:
            if is_broken_off and self._causes.is_at == "step":
                self._causes.turn_out("down")
            self._causes.switch("down")
            self._show_phase()
            self._count()

    def because(self, reason: str, detail: str = "") -> None:
        """Why the present life ended; the first word is the last."""
        with self._lock:
            if self._life is not None and not self._life.reason:
                detail = redacted_text(detail, os.environ)[:MOST_DETAIL]
                self._life = replace(self._life, reason=reason, detail=detail)
                self._is_due = True

    def close(self) -> None:
        """Write once more, if the store answers in time. Nothing is counted after it."""
        self._closing.set()
        if self._thread.ident is not None:
            self._thread.join(_LAST_WRITE_SECONDS)

    def _keep(self) -> None:
        is_over = False
        while not is_over:
            is_over = self._closing.wait(_TICK_SECONDS)
            with self._lock:
                self._count()
                is_due = self._is_due or self._clock() - self._written > _WRITE_SECONDS
            if is_due or is_over:
                self._write()

    def _write(self) -> None:
        with self._lock:
            storage, self._is_due, self._written = self._storage, False, self._clock()
            lives, self._finished = self._finished, []
            present = [] if self._life is None else [self._now(self._life)]
        if storage is None:
            return
        for index, life in enumerate([*lives, *present]):
            try:
                write(storage, life)
            except StorageError as error:
                self._tell(error)
                with self._lock:
                    self._finished = [*lives[index:], *self._finished][-_MOST_UNWRITTEN:]
                return

    def _now(self, life: Generation) -> Generation:
        """With its seconds until now."""
        totals = self._causes.totals()
        cause, pending = self._causes.pending()
        seconds = {
            name: round(passed, 6)
            for name, value in (totals | {cause: totals.get(cause, 0.0) + pending}).items()
            if (passed := value - self._before.get(name, 0.0)) > 0
        }
        end = self._start + sum(seconds.values())
        reached = max(self._reached, life.step)
        return replace(life, end=end, seconds=seconds, reached=reached)

    def _count(self) -> None:
        totals = self._causes.totals()
        for cause, value in totals.items():
            passed = value - self._counted.get(cause, 0.0)
            if cause == "gathering":
                self._metrics.gathering_seconds.inc(passed)
            if self._is_kept:
                self._metrics.goodput_seconds[cause].inc(passed)
        self._counted = totals

    def _show_phase(self) -> None:
        self._metrics.set_phase(self._causes.is_at)

    def _tell(self, error: StorageError) -> None:
        if not self._has_told:
            self._has_told = True
            self._log.warning("goodput is not kept", reason=str(error))
