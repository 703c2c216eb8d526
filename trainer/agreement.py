"""What all workers of a group must decide alike: when to stop or save, how long a call is.

A collective operation that only some workers begin hangs. So none of them acts on its own clock
or on a signal that it alone got: each call of compiled steps also adds up the workers' ballots,
and what they come to holds from that call's end on. One worker alone decides at once.
"""

from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from trainer.stop import StopRequest

BALLOT = 4
MOST_BYTES = 100


class Agreement(Protocol):
    """What may be acted on now, by this worker and by all others.

    `by_clock` is set by whoever knows when this process's clock wants a save.
    """

    stop: StopRequest
    by_clock: Callable[[], bool]

    @property
    def stops(self) -> bool:
        """Whether to save and stop."""
        ...

    @property
    def is_save_due(self) -> bool:
        """Whether the chief's clock wants a save."""
        ...

    @property
    def is_objected(self) -> bool:
        """Whether a worker has found, by now or a call before, that the run must not go on."""
        ...

    def object_to(self, reason: str) -> None:
        """Let all workers hear why the run must not go on; said by the chief alone."""
        ...

    def hear(self) -> None:
        """Take over an objection here, where no call follows; all workers come here."""
        ...

    def objection(self) -> str:
        """Why, where there is one; all workers ask for it."""
        ...

    def ballot(self, wanted_size: int) -> Any:
        """float64 [BALLOT]: what this worker would decide, or None where no one else votes."""
        ...

    def count(self, totals: Any) -> int:
        """Take over what the ballots came to; returns the number of steps of the next call."""
        ...

    def meet(self) -> None:
        """Wait for all other workers to come here, too."""
        ...

    def part(self) -> None:
        """The same before this process ends."""
        ...

    def of_chief(self, text: str) -> str:
        """What the chief says here, MOST_BYTES of UTF-8 at most; others are not heard."""
        ...

    def all(self, mine: bool) -> bool:
        """Whether it is so for every worker."""
        ...


class Alone:
    """The only worker."""

    def __init__(self, stop: StopRequest) -> None:
        self.stop = stop
        self.by_clock: Callable[[], bool] = lambda: False
        self._wanted = 1
        self._reason = ""

    @property
    def stops(self) -> bool:
        """As asked for."""
        return self.stop.is_set

    @property
    def is_save_due(self) -> bool:
        """By this process's clock."""
        return self.by_clock()

    @property
    def is_objected(self) -> bool:
        """At once."""
        return bool(self._reason)

    def object_to(self, reason: str) -> None:
        """The first reason counts."""
        self._reason = self._reason or reason

    def hear(self) -> None:
        """Nobody else to hear."""

    def objection(self) -> str:
        """Its own."""
        return self._reason

    def ballot(self, wanted_size: int) -> Any:
        """None."""
        self._wanted = wanted_size

    def count(self, totals: Any) -> int:  # noqa: ARG002
        """What was wanted."""
        return self._wanted

    def meet(self) -> None:
        """Nobody to wait for."""

    def part(self) -> None:
        """Nobody to wait for."""

    def of_chief(self, text: str) -> str:
        """What this one says."""
        return text

    def all(self, mine: bool) -> bool:
        """Whether it is so here."""
        return mine


class Group:
    """One of several workers; the first, the chief, decides sizes and the times of saves.

    replicas: of this worker, each of which adds its worker's ballot. `total` adds up what all
    workers call it with; it raises one of `lost` when one of them has gone.
    """

    def __init__(
        self, stop: StopRequest, *, is_chief: bool, replicas: int,
        total: Callable[[NDArray[Any]], NDArray[Any]], lost: type[Exception],
    ) -> None:  # fmt: skip
        self._total = total
        self._lost = lost
        self.stop = stop
        self._is_chief = is_chief
        self._replicas = replicas
        self.by_clock: Callable[[], bool] = lambda: False
        self.stops = False
        self.is_save_due = False
        self.is_objected = False
        self._reason = ""

    def object_to(self, reason: str) -> None:
        """With the next ballot, or when all `hear`; the first reason counts."""
        self._reason = self._reason or reason

    def hear(self) -> None:
        """Once there is one, it stays."""
        self.is_objected |= not self.all(not self._reason)

    def objection(self) -> str:
        """The chief's, or its beginning."""
        return self.of_chief(self._reason.encode()[:MOST_BYTES].decode(errors="ignore"))

    def meet(self) -> None:
        """By adding up nothing."""
        self._total(np.zeros(1))

    def of_chief(self, text: str) -> str:
        """Added up, too: the others add zeros."""
        said = np.zeros(MOST_BYTES)
        if self._is_chief:
            data = text.encode()
            said[: len(data)] = list(data)
        heard = self._total(said).astype(np.uint8).tobytes()
        return heard.rstrip(b"\0").decode()

    def all(self, mine: bool) -> bool:
        """Nobody objects."""
        return not self._total(np.array([not mine], np.float64))[0]

    def part(self) -> None:
        """Meet twice: whoever leaves has met all others once.

        Who is through a meeting first, and ends, may take the last bytes of it along that the
        others still wait for. In the second one that does not matter any more.
        """
        self.meet()
        with suppress(self._lost):
            self.meet()

    def ballot(self, wanted_size: int) -> Any:
        """Stop and objection (of anybody), size and save (of the chief)."""
        mine = (wanted_size, self.by_clock()) if self._is_chief else (0, 0)
        return np.array([self.stop.is_set, *mine, bool(self._reason)], np.float64)

    def count(self, totals: Any) -> int:
        """Once decided, a stop stays, as an objection does."""
        stops, size, saves, objections = np.asarray(totals) / self._replicas
        if stops > 0:
            self.stops = True
            self.stop.agree()
        self.is_save_due = bool(saves > 0)
        self.is_objected |= bool(objections > 0)
        return int(size)
