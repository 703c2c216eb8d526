"""What the metrics make of the steps of a call."""

import numpy as np
from prometheus_client import CollectorRegistry

from trainer.callbacks.metrics import MetricsCallback
from trainer.compiled_steps import CallResult
from trainer.metrics import Metrics


def call(*ended: float) -> CallResult:
    """Steps that ended at these times."""
    return CallResult({}, np.array(ended), np.zeros(len(ended)))


def test_time_between_epochs_is_no_steps():
    registry = CollectorRegistry()
    told = MetricsCallback(Metrics(registry), batch_size=16, num_records=48, steps_per_epoch=3)
    told.on_epoch_begin(0)
    told.on_call(call(10.0, 11.0))
    told.on_call(call(13.0))
    told.on_epoch_begin(1)
    told.on_call(call(500.0, 501.0))
    found = [
        registry.get_sample_value(f"trainer_step_duration_seconds_{what}")
        for what in ("count", "sum")
    ]
    assert found == [3, 1.0 + 2.0 + 1.0]
