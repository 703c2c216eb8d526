"""Rows of numbers on their way to a tracking service, which training never waits for.

A thread hands them over, in order. While the service does not answer they wait, are saved with the
run's checkpoints, and come when it answers again, in this life of the run or a later one. What it
has already is not sent again: steps that are done twice after a kill have the same numbers.
"""

import re
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple, Protocol

from trainer.errors import ConfigError
from trainer.log import get_log

MOST_ROWS = 2000
_ROWS_AT_ONCE = 50
_ANSWER_SECONDS = 30.0
_RETRY_SECONDS = 30.0
_END_SECONDS = 30.0
_MOST_CHARACTERS = 500


class Row(NamedTuple):
    """Numbers by name at a global step of the run; `at`, Unix time in seconds."""

    step: int
    at: float
    values: Mapping[str, float]


class Service(Protocol):
    """What takes the rows; each of its methods may raise what it likes, ConfigError for good."""

    name: str

    def connect(self) -> None:
        """Begin the run there, or go on with it."""
        ...

    def send(self, rows: Sequence[Row]) -> None:
        """Take rows, but not what it has; called again with the same ones after an error."""
        ...

    def has_kept(self, row: Row) -> bool:
        """Whether one that it took would survive this process."""
        ...

    def finish(self) -> None:
        """Mark the run as complete."""
        ...


class Reporter:
    """Hands rows over to a service."""

    def __init__(self, service: Service, *, most_rows: int = MOST_ROWS) -> None:
        self._service = service
        self._most_rows = most_rows
        self._rows: deque[Row] = deque()
        self._taken: deque[Row] = deque(maxlen=most_rows)  # and maybe not kept
        self._changed = threading.Condition()
        self._answered = threading.Event()
        self._ends = threading.Event()
        self._is_warned = False
        self._refusal: ConfigError | None = None
        self._thread = threading.Thread(target=self._run, name=service.name, daemon=True)

    @property
    def waiting(self) -> list[Row]:
        """Rows that are not known to be there: a later life of the run sends them again."""
        with self._changed:
            while self._taken and self._is_kept(self._taken[0]):
                self._taken.popleft()
            return [*self._taken, *self._rows]

    def start(self) -> None:
        """Connect. Raises ConfigError when the service refuses; goes on when it does not answer."""
        self._thread.start()
        if not self._answered.wait(_ANSWER_SECONDS):
            self._warn(f"no answer for {_ANSWER_SECONDS:g} s")
        if self._refusal is not None:
            raise self._refusal

    def add(self, rows: Sequence[Row]) -> None:
        """Let rows follow those that wait; the oldest make place when there are too many."""
        with self._changed:
            self._rows.extend(rows)
            if len(self._rows) > self._most_rows:
                self._warn(f"more than {self._most_rows} rows wait: the oldest are left out")
            while len(self._rows) > self._most_rows:
                self._rows.popleft()
            self._changed.notify()

    def end(self) -> None:
        """Training is over: send what is left, for so long as may be waited, and finish."""
        self._ends.set()
        with self._changed:
            self._changed.notify()
        self._thread.join(_END_SECONDS)
        if self._thread.is_alive() or self._rows:
            get_log().warning(
                "tracking is incomplete", service=self._service.name, rows=len(self._rows),
                reason="the run has ended, and its service does not answer",
            )  # fmt: skip

    def _run(self) -> None:
        try:
            if not self._until_it_works(self._service.connect):
                return
        except ConfigError as error:
            self._refusal = error
            self._warn(str(error))
            return
        finally:
            self._answered.set()
        while rows := self._next():
            try:
                if not self._until_it_works(partial(self._service.send, rows)):
                    return
            except ConfigError as error:
                self._warn(f"{len(rows)} rows are left out: {error}")
            self._took(rows)
        self._until_it_works(self._service.finish)

    def _next(self) -> list[Row]:
        """Rows to send now; none when all were sent and the run has ended."""
        with self._changed:
            self._changed.wait_for(lambda: self._rows or self._ends.is_set())
            return list(self._rows)[:_ROWS_AT_ONCE]

    def _took(self, rows: Sequence[Row]) -> None:
        with self._changed:
            self._taken.extend(rows)
            # Some may have made place meanwhile.
            while self._rows and any(self._rows[0] is row for row in rows):
                self._rows.popleft()

    def _is_kept(self, row: Row) -> bool:
        try:
            return self._service.has_kept(row)
        except Exception as error:  # of another's files
            self._warn(describe(error))
            return False

    def _until_it_works(self, call: Callable[[], None]) -> bool:
        """Try again and again; False where the run has ended before. Raises ConfigError."""
        while True:
            try:
                call()
                return True
            except ConfigError:
                raise
            except Exception as error:
                self._warn(describe(error))
            self._answered.set()
            if self._ends.wait(_RETRY_SECONDS):
                return False

    def _warn(self, reason: str) -> None:
        """Once in a life: training goes on, and a service may be away for hours."""
        if not self._is_warned:
            self._is_warned = True
            get_log().warning(
                "tracking fails", service=self._service.name, reason=reason,
                way_out="training goes on; rows wait, and are sent when the service answers",
            )  # fmt: skip


def describe(error: Exception) -> str:
    """An error of a service's in short, without the name and the password of an address."""
    said = re.sub(r"://[^/\s]*@", "://", f"{type(error).__name__}: {error}")
    return said[:_MOST_CHARACTERS]
