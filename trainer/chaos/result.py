"""What came of two runs: whether they are equal, and what the faults have cost."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from trainer.chaos.campaign import Trained
from trainer.chaos.injector import Fired
from trainer.chaos.story import Recovery, summarize
from trainer.errors import CheckpointError
from trainer.run.run_dir import RunDir

# Python's end, which no agent can note.
_UNSEEN_SECONDS = 1.0
MOMENTS = ("detected", "gathered", "restored", "first_step")


@dataclass(frozen=True)
class Ending:
    """A run's last word: sha256 over model and optimizer, and the metrics of every epoch."""

    steps: int
    sha256: str
    history: Mapping[str, Any]


def read_ending(run_dir: str) -> Ending:
    """Of a complete run, whose last checkpoint is read and verified. Raises CheckpointError."""
    run = RunDir(run_dir)
    summary = run.summary()
    if summary is None:
        raise CheckpointError(f"{run_dir} has no summary.json, although its agents ended with 0")
    manifest = run.checkpoint("last").manifest
    return Ending(summary["steps"], manifest.sha256, summary["history"])


@dataclass(frozen=True)
class Calm:
    """An undisturbed run; `making_steps` are the seconds between its first step and its last."""

    ending: Ending
    seconds: float
    making_steps: float
    productive: float


def calm_of(trained: Trained, ending: Ending) -> Calm:
    """What others are compared with."""
    making_steps = trained.story.generations[-1].seconds
    return Calm(ending, trained.seconds, making_steps, _share(trained))


@dataclass(frozen=True)
class Result:
    """A disturbed run beside an undisturbed one; `planned` faults were to happen.

    goodput: the seconds of this training by cause, as the run's ledger has them.
    unseen: those before the first agent could note anything, which is Python's start.
    """

    planned: int
    disturbed: Trained
    ending: Ending
    undisturbed: Calm
    goodput: Mapping[str, float] = field(default_factory=dict)
    unseen: float = 0.0

    @property
    def problems(self) -> list[str]:
        """Why the campaign failed, in words."""
        problems = []
        fired = self.disturbed.fired
        if len(fired) < self.planned:
            problems.append(
                f"only {len(fired)} of {self.planned} faults happened before the run's end: train "
                "longer (train.epochs), or use fewer faults"
            )
        problems += [
            f"fault {number}, {one.fault} (process {one.pid}), had no effect"
            for number, one in enumerate(fired, start=1)
            if not one.is_seen
        ]
        for what in ("steps", "sha256", "history"):
            ours, theirs = getattr(self.ending, what), getattr(self.undisturbed.ending, what)
            if ours != theirs:
                problems.append(f"{what} differs: {_short(ours)}, undisturbed {_short(theirs)}")
        known, passed = sum(self.goodput.values()), self.disturbed.seconds - self.unseen
        if self.goodput and abs(known - passed) > 0.01 * passed + _UNSEEN_SECONDS:
            problems.append(f"the goodput ledger has causes for {known:.1f} s of {passed:.1f} s")
        return problems

    @property
    def recoveries(self) -> list[Recovery]:
        """One for each fault."""
        return self.disturbed.story.recoveries([fired.time for fired in self.disturbed.fired])

    def to_json(self) -> dict[str, Any]:
        """The whole result as plain data."""
        story = self.disturbed.story
        redone = story.redone
        expected = self.undisturbed.ending
        return {
            "equal": self.ending == expected,
            "problems": self.problems,
            "faults": len(self.disturbed.fired),
            "steps": self.ending.steps,
            "lost_steps": max(0, expected.steps - self.ending.steps),
            "redone_steps": sum(redone),
            "redone_steps_per_generation": dict(summarize(redone)),
            "generations": len(story.generations),
            "recovery": recovery_by_kind(self.disturbed.fired, self.recoveries),
            "seconds": round(self.disturbed.seconds, 1),
            "productive": _share(self.disturbed),
            "goodput": {cause: round(value, 1) for cause, value in self.goodput.items()},
            "undisturbed_seconds": round(self.undisturbed.seconds, 1),
            "undisturbed_productive": self.undisturbed.productive,
            "sha256": self.ending.sha256,
            "undisturbed_sha256": expected.sha256,
        }


def recovery_by_kind(
    fired: Sequence[Fired], recoveries: Sequence[Recovery]
) -> dict[str, dict[str, Any]]:
    """By action and target, the percentiles of each moment, in seconds after the signal."""
    both = sorted(zip(map(_kind, fired), recoveries, strict=True), key=lambda pair: pair[0])
    found = {}
    for kind, pairs in groupby(both, key=lambda pair: pair[0]):
        own = [recovery for _, recovery in pairs]
        moments = {name: [getattr(one, name) for one in own] for name in MOMENTS}
        found[kind] = {
            "count": len(own),
            "recovered": sum(one.first_step is not None for one in own),
            **{name: dict(summarize(values)) for name, values in moments.items()},
        }
    return found


def _kind(fired: Fired) -> str:
    return f"{fired.fault.action} {fired.fault.target}"


def _share(trained: Trained) -> float:
    return round(trained.story.productive_seconds / trained.seconds, 4)


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 200 else f"{text[:200]}…"
