"""One training: its legs one after the other, by the code of `trainer chaos`."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.campaign.phases import phase_at
from tests.campaign.plans import Plan, World
from tests.campaign.results import Kill, Outcome, Undisturbed
from trainer.chaos.agents import StartAgent
from trainer.chaos.faults import Amount
from trainer.chaos.result import Result
from trainer.chaos.trial import Trial, run_dirs
from trainer.errors import TrainerError
from trainer.recipes.catalog import load_plain
from trainer.run.run_dir import RunDir

CONFIG = Path(__file__).with_name("run.yaml")
# Without a new step; the slowest start takes a tenth of it.
PATIENCE_SECONDS = 600.0


@dataclass(frozen=True)
class Legs:
    """Trainings of one run in a row, each with its number of workers to its epoch.

    Where the number changes is fixed by the epoch, so that an undisturbed run can do the same.
    """

    world: World
    folder: Path
    run_dir: str
    start: StartAgent
    log: Any

    def trials(self, kills: Sequence[int], seed: int) -> Iterator[Trial]:
        """One for each leg."""
        legs = zip(self.world.workers, self.world.epochs, kills, strict=True)
        for number, (workers, epochs, amount) in enumerate(legs):
            overrides = [f"run.dir={self.run_dir}", f"train.epochs={epochs}"]
            config = load_plain(str(CONFIG), overrides)
            arguments = ["train", f"--config={CONFIG}", *(f"--set={one}" for one in overrides)]
            yield Trial(
                config, workers, Amount(amount), seed + number, arguments,
                self.folder / f"leg-{number + 1}", PATIENCE_SECONDS, self.start, self.log,
            )  # fmt: skip

    def check_world(self, run: str) -> None:
        """Raises TrainerError unless the run knows of exactly these numbers of workers."""
        summary = RunDir(run).summary() or {}
        sizes = tuple(size for _, size in summary.get("world_sizes", ()))
        if sizes != self.world.workers:
            raise TrainerError(f"{run} was trained by {sizes} workers, not {self.world.workers}")

    @property
    def runs(self) -> tuple[str, str]:
        """Folders of the disturbed and the undisturbed run."""
        return run_dirs(load_plain(str(CONFIG), [f"run.dir={self.run_dir}"]))


def train_undisturbed(legs: Legs) -> Undisturbed:
    """Raises TrainerError unless it is complete."""
    calms = tuple(trial.undisturbed() for trial in legs.trials([1] * len(legs.world.workers), 0))
    legs.check_world(legs.runs[1])
    return Undisturbed(legs.world, calms)


def train_disturbed(plan: Plan, legs: Legs, undisturbed: Undisturbed) -> Outcome:
    """What came of it, also when it failed."""
    began, started = datetime.now(UTC).isoformat(timespec="seconds"), time.monotonic()
    results: list[Result] = []
    problems: list[str] = []
    try:
        for trial, calm in zip(legs.trials(plan.kills, plan.seed), undisturbed.legs, strict=True):
            results.append(trial.disturbed(calm))
            problems += results[-1].problems
        legs.check_world(legs.runs[0])
    except TrainerError as error:
        problems.append(str(error))
    seconds = round(time.monotonic() - started, 1)
    return _outcome(plan, began, seconds, problems, results)


def _outcome(
    plan: Plan, began: str, seconds: float, problems: Sequence[str], results: Sequence[Result]
) -> Outcome:
    each = [result.to_json() for result in results]
    legs = zip(plan.world.workers, results, strict=False)
    causes = {cause: 0.0 for found in each for cause in found["goodput"]}
    return Outcome(
        plan, began, seconds, tuple(problems),
        kills=tuple(kill for workers, result in legs for kill in _kills(workers, result)),
        steps=each[-1]["steps"] if each else 0,
        lost_steps=sum(found["lost_steps"] for found in each),
        redone_steps=sum(found["redone_steps"] for found in each),
        starts=sum(found["generations"] for found in each),
        goodput={
            cause: round(sum(found["goodput"][cause] for found in each), 1) for cause in causes
        },
    )  # fmt: skip


def _kills(workers: int, result: Result) -> Iterator[Kill]:
    events = result.disturbed.story.events
    for fired, recovery in zip(result.disturbed.fired, result.recoveries, strict=True):
        moments = (
            recovery.detected, recovery.gathered, recovery.restored, recovery.first_step
        )  # fmt: skip
        phase = phase_at(events, fired.fault.index, fired.time)
        seconds = (None if value is None else round(value, 3) for value in moments)
        yield Kill(fired.fault.target, workers, phase, *seconds)
