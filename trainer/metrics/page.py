"""The rendered page of metrics, and who scrapes it; `trainer.metrics.exposition` serves it."""

import copy
import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable
from http import HTTPStatus

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import Metric

PAGE_SECONDS = 1.0
# Whose scrapes are remembered.
MOST_CLIENTS = 32

_log = logging.getLogger(__name__)


class Page:
    """The rendered page. Scrapers that come together wait for one rendering."""

    def __init__(self, registry: CollectorRegistry, clock: Callable[[], float]) -> None:
        self._registry, self._clock = registry, clock
        self._lock = threading.Lock()
        self._until = float("-inf")
        self._status, self._body = HTTPStatus.INTERNAL_SERVER_ERROR, b""
        self._scraped = threading.Condition()
        # Of each client the last two times, the newest client last.
        self._scrapes: dict[str, deque[float]] = {}
        self._awaited: set[str] = set()

    def get(self) -> tuple[HTTPStatus, bytes]:
        """Status and body of the answer."""
        with self._lock:
            if self._clock() >= self._until:
                self._status, self._body = self._render()
                self._until = self._clock() + PAGE_SECONDS
            return self._status, self._body

    def note_scrape(self, client: str) -> None:
        """The client at this address was given the page."""
        with self._scraped:
            times = self._scrapes.pop(client, deque(maxlen=2))
            times.append(self._clock())
            self._scrapes[client] = times
            if len(self._scrapes) > MOST_CLIENTS:
                del self._scrapes[next(iter(self._scrapes))]
            self._awaited.discard(client)
            self._scraped.notify_all()

    def await_scrape(self, most_seconds: float, on_wait: Callable[[float], None]) -> None:
        """Wait for the next scrape by each who has come twice, and is not gone."""
        with self._lock:
            self._until = float("-inf")  # what was rendered before is old
        with self._scraped:
            intervals = self._intervals()
            if intervals:
                self._awaited = set(intervals)
                seconds = min(1.5 * max(intervals.values()), most_seconds)
                on_wait(seconds)
                self._scraped.wait_for(lambda: not self._awaited, seconds)

    def _intervals(self) -> dict[str, float]:
        """Seconds between scrapes, by client; who has missed three is gone."""
        now = self._clock()
        pairs = {client: times for client, times in self._scrapes.items() if len(times) == 2}
        return {
            client: last - before
            for client, (before, last) in pairs.items()
            if now - last <= 3 * (last - before)
        }

    def _render(self) -> tuple[HTTPStatus, bytes]:
        try:
            return HTTPStatus.OK, generate_latest(_WithoutCreated(self._registry))
        except Exception:
            _log.exception("the metrics page could not be rendered: a collector failed")
            return HTTPStatus.INTERNAL_SERVER_ERROR, b"a collector failed: see the log\n"


class _WithoutCreated:
    """Leaves out the `_created` series: they double the page, and 0 is a counter's birth anyway."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def collect(self) -> Iterable[Metric]:
        for family in self._registry.collect():
            kept = copy.copy(family)
            kept.samples = [s for s in family.samples if s.name != f"{family.name}_created"]
            yield kept
