"""What plain fit can do for a run, and what it refuses."""

import time
import warnings
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from tests.small_training import NoBoundary, Run, compiled, cpus, dataset_of
from trainer.callbacks.metrics import MetricsCallback
from trainer.checkpoint.position import Position, Schedule
from trainer.data.pipeline import Place
from trainer.errors import ConfigError, StoppedError
from trainer.fit_engine import fit
from trainer.metrics import Metrics


class Ends(NoBoundary):
    """Notes the ends of epochs; may stop the run at one."""

    def __init__(self, stop_at: int | None = None) -> None:
        self.positions: list[Position] = []
        self.stop_at = stop_at

    def after_epoch(self, position: Position) -> None:
        self.positions.append(position)
        if position.step == self.stop_at:
            raise StoppedError("told to stop")


def test_epochs_end_with_a_chance_to_save(vectors: str) -> None:
    ends = Ends()
    with warnings.catch_warnings(action="error"):
        end = Run(dataset_of(vectors), validation="test", boundary=ends).fit(
            compiled(cpus()), cpus()
        )
    assert [position.step for position in ends.positions] == [4, 8]
    assert end == ends.positions[-1]
    assert {"loss", "val_loss"} <= end.epoch_logs.keys()


def test_the_time_of_the_last_step_is_told(vectors: str) -> None:
    """Without it, a run would count as one that never came to its first step."""
    registry = CollectorRegistry()
    told = MetricsCallback(Metrics(registry), batch_size=16, num_records=64, steps_per_epoch=4)
    before = time.time()
    Run(dataset_of(vectors)).fit(compiled(cpus()), cpus(), callbacks=[told])
    last = registry.get_sample_value("trainer_last_step_timestamp_seconds")
    assert last is not None
    assert before < last <= time.time()


def test_a_stop_ends_fit(vectors: str) -> None:
    with pytest.raises(StoppedError):
        Run(dataset_of(vectors), boundary=Ends(stop_at=4)).fit(compiled(cpus()), cpus())


def refused(vectors: str, position: Position, place: Place) -> Any:
    """What fit does from there."""
    pipeline = dataset_of(vectors).training(place)
    return fit(None, pipeline, None, Schedule(2, 4), position, callbacks=[], boundary=NoBoundary())


@pytest.mark.parametrize("position", [Position(3), Position(4, "validate")])
def test_a_start_inside_an_epoch_is_refused(vectors: str, position: Position) -> None:
    with pytest.raises(ConfigError, match=r"inside an epoch: use train.engine=loop"):
        refused(vectors, position, Place())


def test_several_replicas_are_refused(vectors: str) -> None:
    with pytest.raises(ConfigError, match="one device: use the loop engine"):
        refused(vectors, Position(), Place(replicas=2))
