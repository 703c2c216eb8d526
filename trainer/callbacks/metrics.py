"""Prometheus metrics from the logs that training computes anyway.

Never asks a metric object for its result: under `tf.distribute` that is a collective
operation, and one worker alone would wait for the others for ever.
"""

import math
import resource
import sys
import time
from pathlib import Path
from typing import Any

import keras

from trainer.backends import this_backend
from trainer.metrics import Metrics
from trainer.models.replicas import local_values
from trainer.steps import GRADIENT_NORM, CallResult

# Between two exports of logs, rate and memory; a page is asked for less often.
_EXPORT_SECONDS = 0.5


class MetricsCallback(keras.callbacks.Callback):
    """Feeds the registry; `on_call` is the loop's, once a call, the hooks are Keras'."""

    def __init__(
        self, metrics: Metrics, *, batch_size: int, num_records: int, steps_per_epoch: int
    ) -> None:
        super().__init__()
        self._metrics = metrics
        self._batch_size = batch_size
        self._steps_per_epoch = steps_per_epoch
        # Records of an epoch's last step.
        self._last_batch = num_records - (steps_per_epoch - 1) * batch_size
        self._step = 0
        self._ended: float | None = None
        self._exported = 0.0

    def start(self, step: int, target_step: int) -> None:
        """Say where the run stands before it goes on."""
        self._step = step
        self._metrics.global_step.set(step)
        self._metrics.target_step.set(target_step)

    def on_call(self, result: CallResult) -> None:
        """Count the steps of one call of the loop."""
        for ended in result.ended:
            if self._ended is not None:
                self._metrics.step_duration_seconds.observe(max(ended - self._ended, 0.0))
            self._ended = float(ended)
        self._metrics.data_wait_seconds.inc(max(float(result.waited.sum()), 0.0))
        self._metrics.last_step_timestamp_seconds.set(float(result.ended[-1]))
        if result.overflowed_at is not None:
            self._metrics.skipped_steps.inc(int((result.overflowed_at > 0).sum()))

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Count one step."""
        is_last = batch == self._steps_per_epoch - 1
        self._step += 1
        self._metrics.steps.inc()
        self._metrics.examples.inc(self._last_batch if is_last else self._batch_size)
        if not math.isfinite((logs or {}).get("loss", 0.0)):
            self._metrics.nonfinite_steps.inc()
        self._metrics.global_step.set(self._step)
        if self._ended is None:  # nobody tells of calls: by `engine: fit`
            self._metrics.last_step_timestamp_seconds.set(time.time())
        is_due = time.monotonic() - self._exported >= _EXPORT_SECONDS
        if is_last or is_due:
            self._export("train", logs)
        if is_due:
            self._exported = time.monotonic()
            self._export_rate()
            self._export_memory()

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        """Say which epoch is trained; time between epochs is no step's."""
        self._metrics.epoch.set(epoch)
        self._ended = None

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        """Export the epoch's metrics and the learning rate."""
        logs = logs or {}
        self._export("train", {k: v for k, v in logs.items() if not k.startswith("val_")})
        self._export(
            "validation", {k.removeprefix("val_"): v for k, v in logs.items() if k[:4] == "val_"}
        )
        self._export_rate()

    def _export_rate(self) -> None:
        if (rate := learning_rate(self.model)) is not None:
            self._metrics.learning_rate.set(rate)

    def _export_memory(self) -> None:
        self._metrics.worker_resident_memory_bytes.set(resident_bytes())
        for number, (now, peak) in enumerate(this_backend().gpu_memory()):
            self._metrics.gpu_memory_bytes.set(now, gpu=str(number))
            self._metrics.gpu_memory_peak_bytes.set(peak, gpu=str(number))

    def _export(self, split: str, logs: dict[str, Any] | None) -> None:
        for name, value in (logs or {}).items():
            if name == "loss":
                self._metrics.loss.set(float(value), split=split)
            elif name == GRADIENT_NORM:
                self._metrics.gradient_norm.set(float(value))
            else:
                self._metrics.metric.set(float(value), split=split, metric=name)


def learning_rate(model: Any) -> float | None:
    """What the model's optimizer makes its next step with; None where it has no such thing."""
    rate = getattr(model.optimizer, "learning_rate", None)
    if rate is None:
        return None
    # A variable, maybe mirrored, or what a schedule gives for this step.
    return float(local_values(rate)[0] if hasattr(rate, "value") else rate)


def resident_bytes() -> int:
    """Resident memory of this process now, or its peak where only that is known (macOS)."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    except OSError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
