"""One life of a script: what its calls of `fit` have come to, and where the next one begins."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from trainer.agreement import Agreement
from trainer.checkpoint.parts import DamagedError
from trainer.checkpoint.restore import Restored
from trainer.checkpoint.store import Checkpoint
from trainer.data.pipeline import Place
from trainer.errors import CheckpointError, ConfigError
from trainer.job import Job
from trainer.versions import versions

MOST_CALLS = 100
_KEY = "script"


@dataclass(frozen=True)
class Ended:
    """A call that is over. step: the run's global step there. said: what it was called with."""

    step: int
    said: Mapping[str, Any]


@dataclass(frozen=True)
class Call:
    """One call of `fit`, the `number`-th of the script from 1.

    first_step: global steps of the run before it. restored: what it goes on from, maybe nothing.
    is_ended: a later call was begun after it.
    """

    number: int
    said: Mapping[str, Any]
    first_step: int
    restored: Restored
    is_ended: bool


@dataclass
class Session:
    """The script's process: what it computes on, and the calls that it has made so far."""

    job: Job
    strategy: Any
    place: Place
    agreement: Agreement
    restored: Restored
    calls: int = 0
    is_on: bool = False  # a call trains, or has trained, in this life
    ended: list[Ended] = field(default_factory=list)
    last: Mapping[str, Any] = field(default_factory=dict)
    world_sizes: list[list[int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        saved = self._saved
        self._known = [Ended(**ended) for ended in saved.get("ended", [])]
        self._current: int = saved.get("call", 0)
        self.job.metrics.checkpoint_fallbacks.inc(len(self.restored.damaged))
        for reason in self.restored.reasons:
            self.job.log.warning("checkpoint skipped", reason=reason)

    @property
    def _saved(self) -> dict[str, Any]:
        checkpoint = self.restored.checkpoint
        return {} if checkpoint is None else dict(checkpoint.manifest.state.get(_KEY, {}))

    def begin(self, said: Mapping[str, Any]) -> Call:
        """The next call, and what it goes on from.

        Raises CheckpointError when the run's call of that number was another one.
        """
        self.calls += 1
        if self.calls > MOST_CALLS:
            raise ConfigError(
                f"the script calls trainer.fit more than {MOST_CALLS} times, and a checkpoint of "
                "each end is kept: train for more epochs in one call, and decide by callbacks"
            )
        said = json.loads(json.dumps(said))
        first_step = self.ended[-1].step if self.ended else 0
        is_ended = self.calls <= len(self._known)
        nothing = Restored(None, (), ())
        if is_ended:
            self._check(said, self._known[self.calls - 1].said)
            restored = Restored(self._end_of(self.calls), (), ())
        elif self.calls == self._current:
            self._check(said, self._saved["said"])
            # Its arrays are in the model from then on: they need no place here.
            restored, self.restored = self.restored, nothing
        else:
            restored = nothing
        return Call(self.calls, said, first_step, restored, is_ended)

    def job_of(self, call: Call, **changes: Any) -> Job:
        """The job of that call, which saves what a later life must know of the script."""
        ended = [{"step": one.step, "said": one.said} for one in self.ended]
        state = {"call": call.number, "said": call.said, "ended": ended}
        kept = frozenset(one.step for one in self.ended)
        return replace(self.job, script=state, kept_steps=kept, **changes)

    def end(self, call: Call, step: int, report: Mapping[str, Any]) -> None:
        """Note that a call is over at the run's global `step`, and what it has come to."""
        self.ended.append(Ended(step, call.said))
        self.last = report

    def summary(self, seconds: float, script_sha256: str) -> dict[str, Any]:
        """What the run's `summary.json` says of a script that has come to its end."""
        logs = self.last.get("logs", {})
        return {
            "complete": True,
            "run": self.job.config.run_name,
            "script_sha256": script_sha256,
            "fits": self.calls,
            "steps": self.ended[-1].step if self.ended else 0,
            "epochs": self.last.get("epochs", 0),
            "stopped_early": self.last.get("stopped_early", False),
            "train": {k: v for k, v in logs.items() if not k.startswith("val_")},
            "validation": {k.removeprefix("val_"): v for k, v in logs.items() if k[:4] == "val_"},
            "test": {},
            "history": self.last.get("history", {}),
            "world_sizes": self.world_sizes,
            "model": [],
            "seconds": round(seconds, 3),
            "versions": versions(),
        }

    def _check(self, said: Mapping[str, Any], known: Mapping[str, Any]) -> None:
        changed = [
            f"  {key}: {known.get(key)} -> {said.get(key)}"
            for key in sorted(said.keys() | known.keys())
            if said.get(key) != known.get(key)
        ]
        if changed:
            lines = "\n".join(changed)
            raise CheckpointError(
                f"call {self.calls} of trainer.fit in run {self.job.run.url} was another one:\n"
                f"{lines}\nchange it back, or use another run.dir"
            )

    def _end_of(self, number: int) -> Checkpoint:
        """What that call had come to. Raises CheckpointError when it does not hold any more."""
        step, store = self._known[number - 1].step, self.job.run.checkpoints
        names = [found.name for found in store.all() if found.committed and found.step == step]
        name = self.agreement.of_chief(names[-1] if names else "")
        problem = "it is gone"
        checkpoint = None
        try:
            checkpoint = store.read(name) if name else None
        except DamagedError as error:
            problem = str(error)
        if self.agreement.all(checkpoint is not None) and checkpoint is not None:
            return checkpoint
        raise CheckpointError(
            f"the checkpoint of step {step}, where call {number} of trainer.fit ended, does not "
            f"hold ({problem}): restore it from a copy, or use another run.dir"
        )
