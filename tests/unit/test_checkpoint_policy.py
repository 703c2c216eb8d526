"""When to save and what to keep, as tables."""

import math

import pytest

from trainer.checkpoint.policy import Kept, SaveCadence, best_of, superseded
from trainer.checkpoint.position import Position
from trainer.config import CheckpointConfig


def cadence(**config) -> SaveCadence:
    """A cadence whose last save was at 100 s."""
    return SaveCadence(CheckpointConfig(**({"every_epochs": None} | config)), last_save=100.0)


# every_steps, step, steps to the next save
@pytest.mark.parametrize(
    ("every", "step", "ahead"),
    [(None, 5, None), (10, 0, 10), (10, 1, 9), (10, 9, 1), (10, 10, 10), (1, 7, 1)],
)
def test_steps_until_save(every: int | None, step: int, ahead: int | None) -> None:
    assert cadence(every_steps=every).steps_until_save(step) == ahead


# config, step, seconds since the last save, due inside an epoch
@pytest.mark.parametrize(
    ("config", "step", "seconds", "due"),
    [
        ({}, 10, 1e9, False),
        ({"every_steps": 10}, 20, 0, True),
        ({"every_steps": 10}, 21, 1e9, False),
        ({"every_seconds": 30.0}, 21, 29.9, False),
        ({"every_seconds": 30.0}, 21, 30.0, True),
        ({"every_steps": 10, "every_seconds": 30.0}, 21, 30.0, True),
        ({"every_seconds": "auto"}, 21, 59.0, False),
        ({"every_seconds": "auto"}, 21, 60.0, True),
        ({"every_epochs": 1}, 20, 1e9, False),
    ],
)
def test_is_due(config: dict, step: int, seconds: float, due: bool) -> None:
    policy = cadence(**config)
    assert (policy.is_due_at(step) or policy.is_due_by(100.0 + seconds)) is due


# config, epochs done, due after the epoch
@pytest.mark.parametrize(
    ("config", "epochs", "due"),
    [
        ({}, 1, False),
        ({"every_epochs": 1}, 1, True),
        ({"every_epochs": 3}, 2, False),
        ({"every_epochs": 3}, 6, True),
        ({"every_steps": 16}, 2, True),
        ({"every_epochs": 3, "every_steps": 7}, 2, False),
    ],
)
def test_is_due_after_epoch(config: dict, epochs: int, due: bool) -> None:
    policy = cadence(**config)
    assert (policy.is_due_after_epoch(epochs) or policy.is_due_at(16 * epochs)) is due


# failures a day, seconds that a save costs, interval: sqrt(2 x cost x time between failures)
@pytest.mark.parametrize(
    ("failures", "cost", "interval"),
    [(1.0, 0.5, math.sqrt(86_400)), (24.0, 2.0, 120.0), (1.0, 0.0, 10.0), (1e6, 1.0, 10.0)],
)
def test_auto_is_the_optimum_of_young(failures: float, cost: float, interval: float) -> None:
    policy = cadence(every_seconds="auto", failures_per_day=failures)
    policy.saved(200.0, cost)
    assert policy.interval_seconds() == pytest.approx(interval)
    assert policy.is_due_by(200.0 + interval)


def test_auto_saves_first_after_a_minute() -> None:
    assert cadence(every_seconds="auto").interval_seconds() == 60.0


def kept(*steps: int, fence: int = 0, **losses: float) -> list[Kept]:
    """Checkpoints of steps; losses as s10=0.5."""
    return [Kept(s, fence, {"loss": losses[f"s{s}"]} if f"s{s}" in losses else {}) for s in steps]


BEST = {"best": {"metric": "loss", "mode": "min"}}


# config, checkpoints, steps that no rule keeps
@pytest.mark.parametrize(
    ("config", "checkpoints", "gone"),
    [
        ({"keep_last": 3}, kept(10, 20, 30), []),
        ({"keep_last": 2}, kept(30, 10, 20, 40), [10, 20]),
        ({"keep_last": 1, "keep_every_steps": 20}, kept(10, 20, 30, 40, 50), [10, 30]),
        ({"keep_last": 1, **BEST}, kept(10, 20, 30, s10=3, s20=1, s30=2), [10]),
        ({"keep_last": 1, **BEST}, kept(10, 20, 30, s10=1, s20=1), [20]),
        ({"keep_last": 1, **BEST}, kept(10, 20, 30, s10=math.nan, s20=2), [10]),
        ({"keep_last": 1, **BEST}, kept(10, 20, 30), [10, 20]),
        ({"keep_last": 1}, [], []),
        ({"keep_last": 1}, [*kept(90), *kept(10, fence=1)], [90]),
    ],
)
def test_superseded(config: dict, checkpoints: list[Kept], gone: list[int]) -> None:
    found = superseded(checkpoints, CheckpointConfig(**config))
    assert [checkpoint.step for checkpoint in found] == gone


# mode, best step
@pytest.mark.parametrize(("mode", "step"), [("min", 20), ("max", 10)])
def test_best_of(mode: str, step: int) -> None:
    config = CheckpointConfig(best={"metric": "loss", "mode": mode})
    assert best_of(kept(10, 20, 30, s10=3, s20=1, s30=2), config).step == step


def test_without_a_metric_nothing_is_best() -> None:
    assert best_of(kept(10, s10=1.0), CheckpointConfig()) is None


# position, steps an epoch, epoch that goes on, inside it, over at step 12
@pytest.mark.parametrize(
    ("position", "epoch", "inside", "over"),
    [
        (Position(0), 0, False, False),
        (Position(3), 0, True, False),
        (Position(4), 1, False, False),
        (Position(4, "validate"), 0, True, False),
        (Position(6, "validate"), 1, True, False),
        (Position(12, "validate"), 2, True, False),
        (Position(12), 3, False, True),
        (Position(13), 3, True, True),
        (Position(6, stop_training=True), 1, True, True),
    ],
)
def test_position(position: Position, epoch: int, inside: bool, over: bool) -> None:
    assert (position.epoch(4), position.is_inside_epoch(4)) == (epoch, inside)
    assert position.is_over(12) is over
    assert Position.from_json(position.to_json()) == position
