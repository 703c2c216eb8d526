"""What the seconds of a run went to: each belongs to one cause, across restarts and pods.

Pure arithmetic. A `CauseClock` gives the seconds of one process to causes, by a monotonic clock; a
`Generation` is one life of the workers with its seconds; a `Ledger` is the chain of all of them.
"""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Annotated

from pydantic import Field

# Ten, as many values as a label of ours may have.
CAUSES = {
    "step": "steps that nothing made before, with the hooks of callbacks",
    "data_wait": "steps that waited for data",
    "redone": "steps that an earlier life had made, too",
    "validation": "validation passes, and the test pass",
    "checkpoint": "standing still for saves, the last one, the export and the summary",
    "restore": "reading a checkpoint, and putting it back",
    "compile": "tracing and compiling the training step, with its first call",
    "startup": "imports and building; of a script, all that its own code does outside of `fit`",
    "gathering": "waiting for the other workers",
    "down": "no worker, or one whose work was lost with it",
}
# What workers are at; data that is waited for, and steps made before, are only known afterwards.
PHASES = tuple(cause for cause in CAUSES if cause not in ("data_wait", "redone"))
COMPLETE = "complete"
LOST = "lost"
MOST_DETAIL = 300

MOST_SECONDS = 1e11  # three thousand years: their sums are finite, and a date has four digits
Seconds = Annotated[float, Field(ge=0, le=MOST_SECONDS, allow_inf_nan=False)]
_Count = Annotated[int, Field(ge=0, le=1 << 53)]
_Text = Annotated[str, Field(max_length=MOST_DETAIL)]


@dataclass(frozen=True)
class Spent:
    """Seconds by cause that end at the moment `at` of the monotonic clock, and the cause since.

    The clock is the machine's: an agent and its worker read the same.
    """

    seconds: dict[str, float]
    cause: str
    at: float


class CauseClock:
    """Gives all seconds from its making on to causes. Safe to share between threads.

    on_change: called after the cause has changed, with this clock.
    """

    def __init__(
        self, cause: str = "startup", *, clock: Callable[[], float] = time.monotonic,
        on_change: "Callable[[CauseClock], None]" = lambda _clock: None,
    ) -> None:  # fmt: skip
        self.now = clock
        self._on_change = on_change
        self._lock = threading.Lock()
        self._seconds: dict[str, float] = {}
        self._cause = cause
        self._at = clock()

    @property
    def is_at(self) -> str:
        """The present cause."""
        return self._cause

    def switch(self, cause: str) -> str:
        """Go on with another cause; returns the one before."""
        with self._lock:
            before = self._cause
            self._pass(self.now())
            self._cause = cause
        if cause != before:
            self._on_change(self)
        return before

    def turn_out(self, cause: str) -> None:
        """What `totals` leaves out, and what follows, has another cause than was thought."""
        with self._lock:
            self._cause = cause

    @contextmanager
    def cause(self, cause: str) -> Iterator[None]:
        """Another cause while the block runs."""
        before = self.switch(cause)
        try:
            yield
        finally:
            self.switch(before)

    def call(self, *, waited: float, redone: float = 0.0) -> None:
        """What passed since the last word was a call of steps, and what belongs to it.

        waited: seconds of it for data. redone: share of the rest that had been made before.
        """
        with self._lock:
            now = self.now()
            passed = max(now - self._at, 0.0)
            waited = min(max(waited, 0.0), passed)
            self._add("data_wait", waited)
            self._add("redone", (passed - waited) * redone)
            self._add(self._cause, (passed - waited) * (1 - redone))
            self._at = max(now, self._at)

    def take(self, told: Spent) -> None:
        """What the clock of another process says of a stretch; what came before it is ours."""
        with self._lock:
            seconds = sum(told.seconds.values())
            self._pass(min(told.at, told.at - seconds))
            # Its first seconds may have been given to a cause here already.
            known = max(seconds - (told.at - self._at), 0.0)
            for cause, value in told.seconds.items():
                self._add(cause, value - min(known, value))
                known -= min(known, value)
            self._at = max(told.at, self._at)
            self._cause = told.cause

    def drain(self) -> Spent:
        """What passed since the last time, for `take` of another process."""
        with self._lock:
            self._pass_unless_step()
            seconds, self._seconds = self._seconds, {}
            return Spent(seconds, self._cause, self._at)

    def totals(self) -> dict[str, float]:
        """Seconds by cause, which never become fewer: a call of steps counts when it has ended."""
        with self._lock:
            self._pass_unless_step()
            return dict(self._seconds)

    def pending(self) -> tuple[str, float]:
        """The present cause, and the seconds of it that `totals` leaves out."""
        with self._lock:
            return self._cause, max(self.now() - self._at, 0.0)

    def _pass_unless_step(self) -> None:
        # How much of a call was for data, or was made before, is known at its end.
        if self._cause != "step":
            self._pass(self.now())

    def _pass(self, now: float) -> None:
        self._add(self._cause, now - self._at)
        self._at = max(now, self._at)

    def _add(self, cause: str, seconds: float) -> None:
        if seconds > 0:
            self._seconds[cause] = self._seconds.get(cause, 0.0) + seconds


@dataclass(frozen=True)
class Generation:
    """One life of the workers, and what followed it until the next one.

    number: its fence; they ascend. start, end: Unix times. seconds: by cause, in the order in
    which the causes first came. workers: how many there were. step: the highest that it told of.
    reached: the highest of this life and all before. reason: why it ended ("complete", "stopped",
    "killed", "crashed", "failed", "hung", "group", or "lost" with its agent), "" while it is not
    known to have ended; detail says more.
    """

    number: _Count
    start: Seconds
    end: Seconds
    seconds: dict[str, Seconds]
    workers: _Count = 1
    step: _Count = 0
    reached: _Count = 0
    reason: _Text = ""
    detail: _Text = ""


@dataclass(frozen=True)
class Ledger:
    """All generations of a run in their order, without gaps but those of a complete run."""

    generations: tuple[Generation, ...] = ()

    @property
    def seconds(self) -> dict[str, float]:
        """The whole run's by cause, all of them."""
        lives = self.generations
        return {cause: sum(life.seconds.get(cause, 0.0) for life in lives) for cause in CAUSES}

    @property
    def wall_seconds(self) -> float:
        """From the first start on; neither what came before it, nor after the run was complete."""
        return sum(sum(life.seconds.values()) for life in self.generations)

    @property
    def productive(self) -> float:
        """Share of the steps that brought the run on; 0 of a run without a second."""
        wall = self.wall_seconds
        return self.seconds["step"] / wall if wall else 0.0


def chain(lives: Sequence[Generation]) -> Ledger:
    """The ledger of these lives; what lies between two of them is `down`.

    Their clocks may be of several machines: where one begins before the end of the one before it,
    nothing lies between them.
    """
    ordered = sorted(lives, key=lambda life: life.number)
    pairs = pairwise(ordered)
    return Ledger((*(_until(life, later) for life, later in pairs), *ordered[-1:]))


def _until(life: Generation, later: Generation) -> Generation:
    life = replace(life, reason=life.reason or LOST)
    gap = down_between(life, later.start)
    if gap == 0:
        return life
    seconds = life.seconds | {"down": life.seconds.get("down", 0.0) + gap}
    return replace(life, end=later.start, seconds=seconds)


def down_between(life: Generation, start: float) -> float:
    """Seconds in which the run was down from the end of `life` to the Unix time `start`."""
    return 0.0 if life.reason == COMPLETE else max(start - life.end, 0.0)
