"""When to save and what to keep: small pure rules over numbers, no I/O and no clock."""

import math
from collections.abc import Sequence, Set
from dataclasses import dataclass

from trainer.config import CheckpointConfig


@dataclass
class SaveCadence:
    """Decides when a save is due. Times are seconds of any one monotonic clock."""

    config: CheckpointConfig
    last_save: float
    save_cost: float | None = None

    def steps_until_save(self, step: int) -> int | None:
        """Steps from `step` to the next one that `every_steps` names; None without it."""
        every = self.config.every_steps
        return None if every is None else every - step % every

    def is_due_at(self, step: int) -> bool:
        """Whether to save after `step`, whatever the time is."""
        every = self.config.every_steps
        return every is not None and step % every == 0

    def is_due_after_epoch(self, epochs_done: int) -> bool:
        """Whether to save after the last step of an epoch, whatever the time is."""
        every = self.config.every_epochs
        return every is not None and epochs_done % every == 0

    def is_due_by(self, now: float) -> bool:
        """Whether to save at this time."""
        seconds = self.interval_seconds()
        return seconds is not None and now - self.last_save >= seconds

    def saved(self, now: float, cost_seconds: float) -> None:
        """Note a save and how long it kept training from going on."""
        self.last_save = now
        self.save_cost = cost_seconds

    def interval_seconds(self) -> float | None:
        """Seconds between saves; for `auto` the optimum of Young (1974), sqrt(2 C M).

        C is the measured cost of a save and M the mean time between failures. Until the first
        save has been measured, a minute.
        """
        seconds = self.config.every_seconds
        if seconds != "auto":
            return seconds
        if self.save_cost is None:
            return 60.0
        between_failures = 86_400 / self.config.failures_per_day
        return max(10.0, math.sqrt(2 * self.save_cost * between_failures))


@dataclass(frozen=True)
class Kept:
    """What retention needs to know of a committed checkpoint."""

    step: int
    fence: int
    metrics: dict[str, float]


def best_of(checkpoints: Sequence[Kept], config: CheckpointConfig) -> Kept | None:
    """The checkpoint with the best value of `checkpoint.best`; the earlier one of equals."""
    if config.best is None:
        return None
    metric, sign = config.best.metric, -1 if config.best.is_higher_better else 1
    scored = [c for c in checkpoints if math.isfinite(c.metrics.get(metric, math.nan))]
    return min(scored, key=lambda c: (sign * c.metrics[metric], c.fence, c.step), default=None)


def superseded(
    checkpoints: Sequence[Kept], config: CheckpointConfig, kept_steps: Set[int] = frozenset()
) -> list[Kept]:
    """Committed checkpoints that no rule keeps, oldest first; those of `kept_steps` stay, too."""
    ordered = sorted(checkpoints, key=lambda c: (c.fence, c.step))
    keep = {(c.fence, c.step) for c in ordered[-config.keep_last :]}
    if config.keep_every_steps is not None:
        keep |= {(c.fence, c.step) for c in ordered if c.step % config.keep_every_steps == 0}
    if best := best_of(ordered, config):
        keep.add((best.fence, best.step))
    return [c for c in ordered if (c.fence, c.step) not in keep and c.step not in kept_steps]
