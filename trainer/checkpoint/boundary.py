"""What happens between two calls of the loop: save when due, stop when told to."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn, Protocol

from trainer.agreement import Agreement
from trainer.checkpoint.policy import SaveCadence
from trainer.checkpoint.position import Position, Schedule
from trainer.checkpoint.saver import Bystander, Save, Saver
from trainer.config import RunConfig
from trainer.errors import ConfigError, StoppedError, StorageError
from trainer.goodput import CauseClock
from trainer.metrics import Metrics

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Captured:
    """The state of this moment: host arrays by name, and plain JSON data."""

    arrays: dict[str, Any]
    state: dict[str, Any]


class Capture(Protocol):
    """Takes the state: the whole, or what a validation pass may change, in memory of its own."""

    def __call__(self, *, whole: bool) -> Captured: ...


class Checkpoints:
    """Saves the run's state, by cadence or because it must stop.

    look_up: called with the step wherever training could end; may raise. goodput: is told while
    training stands still for a save.
    """

    def __init__(
        self,
        config: RunConfig,
        *,
        capture: Capture,
        saver: Saver | Bystander,
        schedule: Schedule,
        agreement: Agreement,
        metrics: Metrics,
        look_up: Callable[[int], None] = lambda _step: None,
        goodput: CauseClock | None = None,
    ) -> None:
        self._capture = capture
        self._saver = saver
        self._schedule = schedule
        self._agreement = agreement
        self._best = config.checkpoint.best
        self._grace_seconds = config.train.grace_seconds
        self._metrics = metrics
        self._look_up = look_up
        self._goodput = goodput or CauseClock()
        self._clock = self._goodput.now
        self._cadence = SaveCadence(config.checkpoint, last_save=self._clock())
        agreement.by_clock = lambda: self._cadence.is_due_by(self._clock())
        self._last: Position | None = None
        self._before_validation: Captured | None = None

    def steps_until_save(self, step: int) -> int | None:
        """Steps to the next one that must end a call."""
        return self._cadence.steps_until_save(step) if self._schedule.saves_inside else None

    def between_calls(self, position: Position) -> None:
        """Save if due. Raises StoppedError, after a save, when told to stop."""
        if not self._schedule.saves_inside:
            self.inside_epoch(position.step)
            return
        self._look_up(position.step)
        self._heed(position)
        if self._agreement.stops:
            self._save_and_stop(position)
        # A position of validation is no place for a cadence: the pass would start again.
        if position.phase == "train" and self._is_due(position.step):
            self.save(position)

    def before_validation(self) -> None:
        """Remember what the pass may change: stopped inside it, the run starts the pass again."""
        self._before_validation = None  # its memory first
        self._before_validation = self._capture(whole=False)

    def inside_epoch(self, step: int) -> None:
        """When told to stop where nothing can be saved: wait for the save in flight, and stop.

        Raises StoppedError.
        """
        self._look_up(step)
        if self._agreement.is_objected:
            raise self._objected()
        if self._agreement.stops:
            self.close()
            saved = "nothing" if self._last is None else f"step {self._global(self._last)}"
            raise StoppedError(
                f"stopped inside an epoch, where this training cannot save (last saved: {saved})"
            )

    def after_epoch(self, position: Position) -> None:
        """The same after validation and on_epoch_end."""
        self._before_validation = None
        self._look_up(position.step)
        self._heed(position)
        if (problem := self._best_problem(position.epoch_logs)) is not None:
            self.save(position)  # the name can be mended, the epoch is not to be lost
            raise ConfigError(problem)
        if self._agreement.stops:
            self._save_and_stop(position)
        epochs = position.step // self._schedule.steps_per_epoch
        is_last = position.is_over(self._schedule.target_step)
        is_due = self._cadence.is_due_after_epoch(epochs) or self._is_due(position.step)
        if is_last or is_due:
            self.save(position)

    def _is_due(self, step: int) -> bool:
        return self._cadence.is_due_at(step) or self._agreement.is_save_due

    def save(self, position: Position) -> None:
        """Copy the state and let it be written; waits for the save before, if there is one."""
        with self._goodput.cause("checkpoint"):
            self._save(position)

    def _save(self, position: Position) -> None:
        started = self._clock()
        self._saver.wait()
        captured = self._capture(whole=True)
        before = self._before_validation
        if position.phase == "validate" and before is not None:
            captured = Captured(captured.arrays | before.arrays, before.state)
        schedule = self._schedule
        # Inside an epoch, they are of a part of its records: not to be compared with others.
        is_epoch_end = position.is_over(schedule.target_step) or not position.is_inside_epoch(
            schedule.steps_per_epoch
        )
        self._saver.save(
            Save(
                step=self._global(position),
                arrays=captured.arrays,
                state={"position": position.to_json()} | captured.state,
                metrics=dict(position.epoch_logs) if is_epoch_end else {},
            )
        )
        blocked = self._clock() - started
        self._last = position
        self._cadence.saved(self._clock(), blocked)
        self._metrics.checkpoint_blocked_seconds.inc(blocked)

    def commit(self, position: Position) -> None:
        """Save, unless that was done already; returns when it is committed.

        Raises StorageError when it cannot be written, StoppedError when told to stop, and
        ConfigError for an objection.
        """
        self._agreement.hear()
        self._heed(position)
        if self._agreement.stops:
            self._save_and_stop(position)
        with self._goodput.cause("checkpoint"):
            # A save is the work of all workers, but whether it is written, one of them knows.
            if self._last != position or not self._agreement.all(self._committed()):
                self.save(position)
                if not self._agreement.all(self._committed()):
                    raise self._saver.last_error or StorageError(
                        "worker 0 could not save: see its log"
                    )

    def _heed(self, position: Position) -> None:
        """ConfigError when a worker objects, after a save: what was trained is as it should be."""
        if self._agreement.is_objected:
            self.save(position)
            raise self._objected()

    def _objected(self) -> ConfigError:
        reason = self._agreement.objection()
        self._agreement.part()
        return ConfigError(
            f"{reason} on worker 0 alone (chief_only), and the others would "
            "not have: let it run on all of them, or decide in a callback that does"
        )

    def _best_problem(self, logs: dict[str, float]) -> str | None:
        """Why no epoch can be the best: there is no such metric as `checkpoint.best` names."""
        best = self._best
        if best is None or best.metric in logs:
            return None
        is_validated = any(name.startswith("val_") for name in logs)
        if best.metric.startswith("val_") and not is_validated:
            return None
        return (
            f"checkpoint.best.metric '{best.metric}' is no metric of an epoch: "
            f"use one of {', '.join(logs)}"
        )

    def _committed(self) -> bool:
        self._saver.wait()
        return self._saver.last_error is None

    def resume(self, position: Position) -> None:
        """Note the position that was restored: it needs no save."""
        self._last = position

    def close(self) -> None:
        """Give the save in flight its time to end, when training ended before it."""
        with self._goodput.cause("checkpoint"):
            self._saver.wait(self._left() if self._agreement.stops else self._grace_seconds)

    def _left(self) -> float:
        """Seconds of the grace that are left."""
        return max(self._grace_seconds - self._agreement.stop.seconds_since(), 0.0)

    def _save_and_stop(self, position: Position) -> NoReturn:
        self._goodput.switch("checkpoint")  # and nothing else any more
        step = self._global(position)
        is_wanted = self._saver.wait(self._left()) and (
            self._last != position or self._saver.last_error is not None
        )
        if self._agreement.of_chief("save" if is_wanted else ""):
            self.save(position)
        is_written = self._saver.wait(self._left())
        self._agreement.part()  # who leaves before the chief has saved would break it off
        if not is_written:
            self._metrics.checkpoint_saves["failure"].inc()  # nobody waits for it any more
            raise StoppedError(
                f"stopped at step {step}; the last save was not committed within "
                f"{self._grace_seconds:g} s, the checkpoint before it is intact"
            )
        if self._saver.last_error is not None:
            raise StoppedError(
                f"stopped at step {step}; the last save failed "
                f"({self._saver.last_error}), the checkpoint before it is intact"
            )
        raise StoppedError(f"stopped at step {step}, saved")

    def _global(self, position: Position) -> int:
        return self._schedule.first_step + position.step
