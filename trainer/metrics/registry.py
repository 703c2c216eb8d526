"""The metrics of one process; `trainer.declarations` is the table of them.

Counters start from 0 in every agent and nothing sets them, least of all a checkpoint: `rate()`
reads a restart as a reset. A gauge is absent from the page until it is first set, because a 0
that nobody measured (a loss, the time of the last step) would be believed.
"""

import logging
import re
from collections.abc import Callable, Mapping
from functools import partial
from threading import Lock
from types import MappingProxyType
from typing import TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from trainer.declarations import METRICS, RESERVED_LABELS
from trainer.errors import ConfigError
from trainer.goodput import CAUSES, PHASES

MAX_LABEL_VALUES = 10
RESTART_CAUSES = ("crashed", "failed", "group", "hung", "killed", "stopped")
# What is done to a store, as in `trainer.storage.base.Operation`.
OPERATIONS = ("list", "stat", "read", "write", "create", "delete")
# How requests to a store end, of all that `OnRequest` may say.
CODES = (
    "ok", "404", "412", "429", "5xx", "checksum", "connection", "refused", "timeout", "other",
)  # fmt: skip
_REFUSED = ("401", "403", "credentials")
# Names of a user's own metrics, which are theirs to choose; as many as a report has curves.
MAX_METRICS = 50

_log = logging.getLogger(__name__)
_Metric = TypeVar("_Metric", Counter, Gauge, Histogram)


class LateGauge:
    """A gauge without labels of its own, absent until it is first set."""

    def __init__(self, create: Callable[[], Gauge]) -> None:
        self._create = create
        self._gauge: Gauge | None = None
        self._lock = Lock()

    def set(self, value: float) -> None:
        """Set the value, in base units."""
        with self._lock:
            if self._gauge is None:
                self._gauge = self._create()
        self._gauge.set(value)


class GaugeFamily:
    """A gauge with labels. Each label takes its first `most` values; later ones are dropped, said
    once: a name made in a loop must not flood the Prometheus server.
    """

    def __init__(
        self, gauge: Gauge, constants: Mapping[str, str], labels: tuple[str, ...], most: int
    ) -> None:
        self._gauge, self._constants, self._labels = gauge, constants, labels
        self._most = most
        self._children: dict[tuple[str, ...], Gauge] = {}
        self._values: dict[str, set[str]] = {label: set() for label in labels}
        self._full: set[str] = set()
        self._lock = Lock()

    def set(self, value: float, **labels: str) -> None:
        """Set the series of these labels, all of which must be given."""
        if len(labels) != len(self._labels):
            raise TypeError(f"labels must be {self._labels}, got {tuple(labels)}")
        key = tuple(labels[label] for label in self._labels)
        child = self._children.get(key)
        if child is None:
            child = self._admit(key)
        if child is not None:
            child.set(value)

    def replace(self, value: float, **labels: str) -> None:
        """Set one series and forget all others."""
        with self._lock:
            self._gauge.clear()
            self._children.clear()
            for values in self._values.values():
                values.clear()
        self.set(value, **labels)

    def _admit(self, key: tuple[str, ...]) -> Gauge | None:
        named = dict(zip(self._labels, key, strict=True))
        with self._lock:
            for label, value in named.items():
                if len(self._values[label] | {value}) > self._most:
                    self._say_full(label, value)
                    return None
            for label, value in named.items():
                self._values[label].add(value)
            # A lone surrogate could not be encoded and would break the whole page.
            printable = {k: v.encode("utf-8", "replace").decode() for k, v in named.items()}
            self._children[key] = self._gauge.labels(**self._constants, **printable)
            return self._children[key]

    def _say_full(self, label: str, value: str) -> None:
        if label not in self._full:
            self._full.add(label)
            _log.warning(
                "label %r has %d values already: %r and further ones are not exported",
                label, self._most, value,
            )  # fmt: skip


class Metrics:
    """The metrics of one process, registered with `registry`; one attribute a metric.

    `labels` are added to every series. Raises `ConfigError` for a label that is not allowed.
    """

    def __init__(
        self, registry: CollectorRegistry, *, labels: Mapping[str, str] | None = None
    ) -> None:
        make = _Maker(registry, _checked_labels(labels or {}))
        self.steps = make.counter("trainer_steps_total")
        self.examples = make.counter("trainer_examples_total")
        self.step_duration_seconds = make.histogram("trainer_step_duration_seconds")
        self.data_wait_seconds = make.counter("trainer_data_wait_seconds_total")
        self.goodput_seconds = make.counters("trainer_goodput_seconds_total", tuple(CAUSES))
        self._phase = make.gauges("trainer_phase")
        self.loss = make.gauges("trainer_loss")
        self.metric = make.gauges("trainer_metric", most=MAX_METRICS)
        self.learning_rate = make.gauge("trainer_learning_rate")
        self.gradient_norm = make.gauge("trainer_gradient_norm")
        self.global_step = make.gauge("trainer_global_step")
        self.epoch = make.gauge("trainer_epoch")
        self.target_step = make.gauge("trainer_target_step")
        self.last_step_timestamp_seconds = make.gauge("trainer_last_step_timestamp_seconds")
        self.nonfinite_steps = make.counter("trainer_nonfinite_steps_total")
        self.skipped_steps = make.counter("trainer_skipped_steps_total")
        self.checkpoint_saves = make.counters(
            "trainer_checkpoint_saves_total", ("success", "failure")
        )
        self.checkpoint_save_duration_seconds = make.histogram(
            "trainer_checkpoint_save_duration_seconds"
        )
        self.checkpoint_blocked_seconds = make.counter("trainer_checkpoint_blocked_seconds_total")
        self.checkpoint_written_bytes = make.counter("trainer_checkpoint_written_bytes_total")
        self.checkpoint_last_success_timestamp_seconds = make.gauge(
            "trainer_checkpoint_last_success_timestamp_seconds"
        )
        self.checkpoint_last_success_step = make.gauge("trainer_checkpoint_last_success_step")
        self.checkpoint_restores = make.counter("trainer_checkpoint_restores_total")
        self.checkpoint_fallbacks = make.counter("trainer_checkpoint_fallbacks_total")
        self.data_bad_records = make.counter("trainer_data_bad_records_total")
        self._storage_requests = make.family("trainer_storage_requests_total")
        self._storage_retries = make.counters("trainer_storage_retries_total", OPERATIONS)
        self._storage_bytes = make.family("trainer_storage_bytes_total")
        for operation in OPERATIONS:
            for code in CODES:
                self._storage_requests(operation, code)
            self._storage_bytes(operation)
        self.worker_restarts = make.counters("trainer_worker_restarts_total", RESTART_CAUSES)
        self.generation = make.gauge("trainer_generation")
        self.group_present_workers = make.gauge("trainer_group_present_workers")
        self.group_wanted_workers = make.gauge("trainer_group_wanted_workers")
        self.gathering_seconds = make.counter("trainer_gathering_seconds_total")
        self.worker_resident_memory_bytes = make.gauge("trainer_worker_resident_memory_bytes")
        self.gpu_memory_bytes = make.gauges("trainer_gpu_memory_bytes")
        self.gpu_memory_peak_bytes = make.gauges("trainer_gpu_memory_peak_bytes")
        self._build_info = make.gauges("trainer_build_info")
        self._run_info = make.gauges("trainer_run_info")
        self.run_exit_code = make.gauge("trainer_run_exit_code")

    def count_request(self, operation: str, code: str, num_bytes: int, is_repeated: bool) -> None:
        """Count a request to a store, see `trainer.storage.OnRequest`."""
        self._storage_requests(operation, _one_of_few(code)).inc()
        self._storage_retries[operation].inc(is_repeated)
        self._storage_bytes(operation).inc(num_bytes)

    def set_phase(self, phase: str) -> None:
        """What this worker is at, one of `trainer.goodput.PHASES`; steps of any kind are one."""
        now = phase if phase in PHASES else "step"
        for other in PHASES:
            self._phase.set(float(other == now), phase=other)

    def set_build_info(
        self, *, version: str, tensorflow: str, keras: str, backend: str, python: str
    ) -> None:
        """Name the versions that run; an earlier call's are forgotten."""
        self._build_info.replace(
            1, version=version, tensorflow=tensorflow, keras=keras, backend=backend, python=python
        )

    def set_run_info(self, run: str) -> None:
        """Name the run."""
        self._run_info.replace(1, run=run)


class _Maker:
    """Turns rows of the table into metrics with the constant labels bound."""

    def __init__(self, registry: CollectorRegistry, constants: Mapping[str, str]) -> None:
        self._registry, self._constants = registry, constants
        self._rows = {row.name: row for row in METRICS}

    def counter(self, name: str) -> Counter:
        row = self._rows[name]
        return self._bound(
            Counter(name, row.help, labelnames=(*self._constants,), registry=self._registry)
        )

    def family(self, name: str) -> Callable[..., Counter]:
        """A function from the metric's label values to its counter."""
        row = self._rows[name]
        names = (*self._constants, *row.labels)
        family = Counter(name, row.help, labelnames=names, registry=self._registry)
        return partial(family.labels, *self._constants.values())

    def counters(self, name: str, values: tuple[str, ...]) -> Mapping[str, Counter]:
        """One counter for each value of the metric's only label, all of them at 0."""
        row = self._rows[name]
        names = (*self._constants, *row.labels)
        family = Counter(name, row.help, labelnames=names, registry=self._registry)
        constants = self._constants.values()
        return MappingProxyType({value: family.labels(*constants, value) for value in values})

    def histogram(self, name: str) -> Histogram:
        row, names = self._rows[name], (*self._constants,)
        return self._bound(
            Histogram(name, row.help, names, buckets=row.buckets, registry=self._registry)
        )

    def gauge(self, name: str) -> LateGauge:
        row, names = self._rows[name], (*self._constants,)
        return LateGauge(lambda: self._bound(Gauge(name, row.help, names, registry=self._registry)))

    def gauges(self, name: str, most: int = MAX_LABEL_VALUES) -> GaugeFamily:
        row = self._rows[name]
        names = (*self._constants, *row.labels)
        family = Gauge(name, row.help, names, registry=self._registry)
        return GaugeFamily(family, self._constants, row.labels, most)

    def _bound(self, metric: _Metric) -> _Metric:
        return metric.labels(*self._constants.values()) if self._constants else metric


def _one_of_few(code: str) -> str:
    """One of `CODES`."""
    if code in CODES:
        return code
    if code in _REFUSED:
        return "refused"
    return "5xx" if code.isdecimal() and code.startswith("5") else "other"


def _checked_labels(labels: Mapping[str, str]) -> Mapping[str, str]:
    for name, value in labels.items():
        if not re.fullmatch(r"(?!__)[a-zA-Z_][a-zA-Z0-9_]*", name, re.ASCII):
            raise ConfigError(
                f"metrics.labels: {name!r} is no label name: use letters, digits and underscores, "
                "not '__' or a digit in front"
            )
        if name in RESERVED_LABELS:
            raise ConfigError(f"metrics.labels: {name!r} is a label of the trainer: rename yours")
        if not value.isprintable() or len(value) > 128:
            raise ConfigError(
                f"metrics.labels.{name}: {value[:140]!r} is refused: use at most 128 printable "
                "characters"
            )
    if len(labels) > MAX_LABEL_VALUES:
        raise ConfigError(f"metrics.labels has {len(labels)} labels: keep {MAX_LABEL_VALUES}")
    return dict(labels)
