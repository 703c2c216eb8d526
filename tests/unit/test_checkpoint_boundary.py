"""Between two calls: what is saved when training is told to stop there."""

import signal

import pytest
from prometheus_client import CollectorRegistry

from tests.small_storage import FailingStorage, MemoryStorage
from trainer.agreement import Alone
from trainer.checkpoint.boundary import Captured, Checkpoints
from trainer.checkpoint.position import Position, Schedule
from trainer.checkpoint.saver import Saver
from trainer.checkpoint.store import CheckpointStore
from trainer.config import RunConfig
from trainer.errors import StoppedError
from trainer.metrics import Metrics
from trainer.stop import StopRequest

CONFIG = RunConfig.model_validate(
    {
        "recipe": "fashion_mnist",
        "data": {"url": "builtin:fashion_mnist", "batch_size": 32},
        "train": {"epochs": 1},
        "checkpoint": {"background": False},
    }
)


def test_a_stop_after_the_last_save_failed_saves_that_step() -> None:
    storage, stop, metrics = MemoryStorage(), StopRequest(), Metrics(CollectorRegistry())
    failing = FailingStorage(storage, fail_at=0)
    checkpoints = Checkpoints(
        CONFIG,
        capture=lambda *, whole: Captured({}, {}),
        saver=Saver(CheckpointStore(failing), CONFIG.checkpoint, metrics),
        schedule=Schedule(epochs=1, steps_per_epoch=4),
        agreement=Alone(stop),
        metrics=metrics,
    )
    checkpoints.after_epoch(Position(step=4))
    assert storage.objects == {}
    failing.heal()
    stop.defer(True)
    stop._handle(signal.SIGTERM, None)
    with pytest.raises(StoppedError, match="at step 4, saved"):
        checkpoints.commit(Position(step=4))
    assert [found.step for found in CheckpointStore(storage).all() if found.committed] == [4]
