"""Between two calls: what is saved when training is told to stop there."""

import signal
import threading
from typing import Any

import numpy as np
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


def checkpoints_of(
    storage: Any, stop: StopRequest, capture: Any, config: RunConfig = CONFIG,
    registry: CollectorRegistry | None = None,
) -> Checkpoints:  # fmt: skip
    metrics = Metrics(registry or CollectorRegistry())
    return Checkpoints(
        config,
        capture=capture,
        saver=Saver(CheckpointStore(storage), config.checkpoint, metrics),
        schedule=Schedule(epochs=1, steps_per_epoch=4),
        agreement=Alone(stop),
        metrics=metrics,
    )


def tell(stop: StopRequest) -> None:
    stop.defer(True)
    stop._handle(signal.SIGTERM, None)


def test_a_stop_after_the_last_save_failed_saves_that_step() -> None:
    storage, stop = MemoryStorage(), StopRequest()
    failing = FailingStorage(storage, fail_at=0)
    checkpoints = checkpoints_of(failing, stop, lambda *, whole: Captured({}, {}))
    checkpoints.after_epoch(Position(step=4))
    assert storage.objects == {}
    failing.heal()
    tell(stop)
    with pytest.raises(StoppedError, match="at step 4, saved"):
        checkpoints.commit(Position(step=4))
    assert [found.step for found in CheckpointStore(storage).all() if found.committed] == [4]


def test_a_stop_inside_of_a_validation_pass_saves_what_was_before_it() -> None:
    storage, stop, batches = MemoryStorage(), StopRequest(), [0]

    def capture(*, whole: bool) -> Captured:
        arrays = {"callback/Own-0/seen": np.array(batches)}
        weights = {"model/0000/w": np.ones(2)} if whole else {}
        return Captured(weights | arrays, {"callbacks": {"Own-0": {"num": batches[0]}}})

    checkpoints = checkpoints_of(storage, stop, capture)
    checkpoints.before_validation()
    batches[0] = 1
    tell(stop)
    with pytest.raises(StoppedError, match="at step 4, saved"):
        checkpoints.between_calls(Position(step=4, phase="validate"))
    saved = CheckpointStore(storage).read("step-00000004-f0")
    assert saved.manifest.state["callbacks"]["Own-0"]["num"] == 0
    assert saved.arrays["callback/Own-0/seen"] == 0


class StalledStorage(MemoryStorage):
    """Answers no write until it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.answers = threading.Event()

    def write(self, path: str, data: bytes | memoryview) -> Any:
        assert self.answers.wait(60)
        return super().write(path, data)


def test_f06_a_save_that_the_grace_was_too_short_for_is_counted() -> None:
    storage, stop, registry = StalledStorage(), StopRequest(), CollectorRegistry()
    config = CONFIG.model_copy(
        update={
            "train": CONFIG.train.model_copy(update={"grace_seconds": 0.1}),
            "checkpoint": CONFIG.checkpoint.model_copy(update={"background": True}),
        }
    )
    capture = lambda *, whole: Captured({}, {})  # noqa: E731
    checkpoints = checkpoints_of(storage, stop, capture, config, registry)
    tell(stop)
    try:
        with pytest.raises(StoppedError, match=r"not committed within 0\.1 s"):
            checkpoints.between_calls(Position(step=2))
    finally:
        storage.answers.set()
    saves = "trainer_checkpoint_saves_total"
    assert registry.get_sample_value(saves, {"result": "failure"}) == 1
