"""How long a pipeline has waited for its source: what tells a stall of data from a slow step."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Fetching:
    """Seconds of all fetches so far; one goes on at a time, on a thread of the pipeline's."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._ended = 0.0
        self._began: float | None = None

    @property
    def seconds(self) -> float:
        """With those of the fetch that goes on now; never fewer than before."""
        ended, began = self._ended, self._began
        return ended if began is None else ended + self._clock() - began

    @contextmanager
    def going_on(self) -> Iterator[None]:
        """One fetch."""
        began = self._began = self._clock()
        try:
            yield
        finally:
            self._began, self._ended = None, self._ended + self._clock() - began
