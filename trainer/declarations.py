"""Every metric of the trainer, declared once in one table.

Apart from `trainer.metrics`, which a configuration must not import to know their labels.
"""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Declaration:
    """One row of the table; `buckets` are a histogram's upper bounds, without infinity."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


_STEP_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_SAVE_BUCKETS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)

METRICS = (
    Declaration("trainer_steps_total", "counter", "Optimizer steps done by this agent's workers"),
    Declaration(
        "trainer_examples_total", "counter", "Examples of those steps, of all workers; no padding"
    ),
    Declaration(
        "trainer_step_duration_seconds", "histogram", "Wall time of one step", buckets=_STEP_BUCKETS
    ),
    Declaration("trainer_data_wait_seconds_total", "counter", "Time that steps waited for data"),
    Declaration(
        "trainer_goodput_seconds_total",
        "counter",
        "Time of the run by what it went to; of the whole group, on the page of worker 0 alone",
        ("cause",),
    ),
    Declaration(
        "trainer_phase", "gauge", "1 for what this worker is at now, 0 for all else", ("phase",)
    ),
    Declaration("trainer_loss", "gauge", "Latest loss", ("split",)),
    Declaration(
        "trainer_metric",
        "gauge",
        "Latest value of a compiled metric, of 50 at most",
        ("split", "metric"),
    ),
    Declaration("trainer_learning_rate", "gauge", "Latest learning rate"),
    Declaration(
        "trainer_gradient_norm",
        "gauge",
        "Latest norm of a step's gradients, before they are clipped (`train.gradient_norm`)",
    ),
    Declaration("trainer_global_step", "gauge", "Steps of the run done, over all restarts"),
    Declaration("trainer_epoch", "gauge", "Epoch being trained, from 0"),
    Declaration("trainer_target_step", "gauge", "Global step at which the run is complete"),
    Declaration("trainer_last_step_timestamp_seconds", "gauge", "Unix time of the last step's end"),
    Declaration("trainer_nonfinite_steps_total", "counter", "Steps whose loss was NaN or infinite"),
    Declaration(
        "trainer_skipped_steps_total",
        "counter",
        "Steps skipped because scaled gradients overflowed",
    ),
    Declaration("trainer_checkpoint_saves_total", "counter", "Saves ended, by result", ("result",)),
    Declaration(
        "trainer_checkpoint_save_duration_seconds",
        "histogram",
        "Time from snapshot to commit",
        buckets=_SAVE_BUCKETS,
    ),
    Declaration(
        "trainer_checkpoint_blocked_seconds_total",
        "counter",
        "Time that training stood still for saves",
    ),
    Declaration(
        "trainer_checkpoint_written_bytes_total",
        "counter",
        "Bytes of committed checkpoints written",
    ),
    Declaration(
        "trainer_checkpoint_last_success_timestamp_seconds", "gauge", "Unix time of the last commit"
    ),
    Declaration("trainer_checkpoint_last_success_step", "gauge", "Global step of the last commit"),
    Declaration("trainer_checkpoint_restores_total", "counter", "Checkpoints restored"),
    Declaration(
        "trainer_checkpoint_fallbacks_total",
        "counter",
        "Checkpoints skipped at restore because they were damaged",
    ),
    Declaration(
        "trainer_data_bad_records_total", "counter", "Bad records, in whose place others were taken"
    ),
    Declaration(
        "trainer_storage_requests_total",
        "counter",
        "Requests to object storage, repeated ones included, by what they did and how they ended: "
        "an HTTP status (5xx: all of them), refused (401, 403, no credentials), or one by name",
        ("operation", "code"),
    ),
    Declaration(
        "trainer_storage_retries_total",
        "counter",
        "Those of the requests that repeated one",
        ("operation",),
    ),
    Declaration(
        "trainer_storage_bytes_total",
        "counter",
        "Bytes moved by requests that were answered",
        ("operation",),
    ),
    Declaration(
        "trainer_worker_restarts_total",
        "counter",
        "Workers started anew by their agent, by why the one before had ended",
        ("cause",),
    ),
    Declaration(
        "trainer_generation",
        "gauge",
        "Number of the present life of the workers, which grows over all restarts",
    ),
    Declaration(
        "trainer_group_present_workers",
        "gauge",
        "Workers of the present generation, 0 while there is none",
    ),
    Declaration("trainer_group_wanted_workers", "gauge", "Workers that the run is to have"),
    Declaration(
        "trainer_gathering_seconds_total", "counter", "Time that this agent waited for the others"
    ),
    Declaration(
        "trainer_worker_resident_memory_bytes", "gauge", "Resident memory of the worker process"
    ),
    Declaration(
        "trainer_gpu_memory_bytes", "gauge", "Memory of a GPU that this worker uses now", ("gpu",)
    ),
    Declaration(
        "trainer_gpu_memory_peak_bytes", "gauge", "The most that it has used so far", ("gpu",)
    ),
    Declaration(
        "trainer_build_info",
        "gauge",
        "1; versions as labels",
        ("version", "tensorflow", "keras", "backend", "python"),
    ),
    Declaration("trainer_run_info", "gauge", "1; the run's name as label", ("run",)),
    Declaration(
        "trainer_run_exit_code",
        "gauge",
        "With which code the run has ended, until it was scraped for the last time",
    ),
)

# What no label of a user's may be called: Prometheus' own, and those of the metrics.
RESERVED_LABELS = frozenset({"le", "quantile"}.union(*(row.labels for row in METRICS)))


def describe() -> list[Declaration]:
    """The table, for the generator of the docs."""
    return list(METRICS)
