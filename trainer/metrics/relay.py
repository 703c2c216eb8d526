"""Metrics of another process, as plain data, and a page's worth of several processes' metrics.

No counter of the page goes back while the process that serves it lives: what earlier workers
counted is added to what the present one has counted so far. A gauge is the latest that was set.
"""

import threading
from collections.abc import Iterable, Sequence
from typing import Any

from prometheus_client.metrics_core import Metric

# (name, help, type, samples) of a family; (name, labels, value) of a sample.
Family = tuple[str, str, str, Sequence[tuple[str, dict[str, str], float]]]

_ADDED = ("counter", "histogram")


def snapshot(registry: Any) -> list[Family]:
    """All families of a registry as JSON data, without the `_created` series."""
    return [
        (
            family.name, family.documentation, family.type,
            [(s.name, s.labels, s.value) for s in family.samples if s.name[-8:] != "_created"],
        )
        for family in registry.collect()
    ]  # fmt: skip


class Relay:
    """What a `MetricsServer` needs of a registry: the metrics of `own` and of the workers."""

    def __init__(self, own: Any) -> None:
        self._own = own
        self._lock = threading.Lock()
        self._before: list[Family] = []
        self._latest: list[Family] = []

    def update(self, latest: list[Family]) -> None:
        """Take what the present worker says."""
        with self._lock:
            self._latest = latest

    def end_life(self) -> None:
        """The worker has ended: the next one's counters begin at 0."""
        with self._lock:
            self._before, self._latest = _merged([*self._before, *self._latest]), []

    def collect(self) -> Iterable[Metric]:
        """The families of the page."""
        with self._lock:
            merged = _merged([*snapshot(self._own), *self._before, *self._latest])
        for name, about, kind, samples in merged:
            family = Metric(name, about, kind)
            for sample in samples:
                family.add_sample(*sample)
            yield family


def _merged(families: Iterable[Family]) -> list[Family]:
    """Families of one name as one: counts added, of gauges the last."""
    merged: dict[str, tuple[str, str, dict[Any, float]]] = {}
    for name, about, kind, samples in families:
        values = merged.setdefault(name, (about, kind, {}))[2]
        for sample, labels, value in samples:
            key = (sample, tuple(labels.items()))
            values[key] = value + (values.get(key, 0.0) if kind in _ADDED else 0.0)
    return [
        (name, about, kind, [(sample, dict(labels), v) for (sample, labels), v in values.items()])
        for name, (about, kind, values) in merged.items()
    ]
