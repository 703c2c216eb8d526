"""One life of a script: what its calls of `fit` have come to, and where the next one begins."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any
from weakref import WeakSet

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
_NOTHING = Restored(None, (), ())


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
    """The script's process: what it computes on, and the calls that it has made so far.

    is_on: a call trains, or has trained, in this life. is_calling: one is made right now.
    is_training: one changes its model, or has and did not end. failure: what the last call raised.
    num_working: calls of `fit`, `evaluate` and `predict` that go on, one inside of another.
    changed: models that calls have changed, and did not end.
    """

    job: Job
    strategy: Any
    place: Place
    agreement: Agreement
    restored: Restored
    is_on: bool = False
    is_calling: bool = False
    is_training: bool = False
    failure: BaseException | None = None
    num_working: int = 0
    changed: WeakSet[Any] = field(default_factory=WeakSet)
    ended: list[Ended] = field(default_factory=list)
    last: Mapping[str, Any] = field(default_factory=dict)
    world_sizes: list[list[int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        saved = self._saved
        self._known = [Ended(**ended) for ended in saved.get("ended", [])]
        self._current: int = saved.get("call", 0)
        checkpoint = self.restored.checkpoint
        self._begun_at = 0 if checkpoint is None else checkpoint.manifest.step
        self.job.metrics.checkpoint_fallbacks.inc(len(self.restored.damaged))
        for reason in self.restored.reasons:
            self.job.log.warning("checkpoint skipped", reason=reason)

    @property
    def _saved(self) -> dict[str, Any]:
        checkpoint = self.restored.checkpoint
        return {} if checkpoint is None else dict(checkpoint.manifest.state.get(_KEY, {}))

    @property
    def is_broken(self) -> bool:
        """Whether a call failed while it trained: a model is between two steps, or two saves."""
        return self.is_training and self.failure is not None

    @property
    def number(self) -> int:
        """That of the next call, from 1: one that was refused, or broken off, is made again."""
        return len(self.ended) + 1

    def begin(self, said: Mapping[str, Any]) -> Call:
        """The next call, and what it goes on from.

        Raises CheckpointError when the run's call of that number was another one, and once more
        what broke a call off: only another life goes on with it.
        """
        if self.is_training:
            raise self.failure or ConfigError("trainer.fit was called while trainer.fit trains")
        number = self.number
        if number > MOST_CALLS:
            raise ConfigError(
                f"the script calls trainer.fit more than {MOST_CALLS} times, and a checkpoint of "
                "each end is kept: train for more epochs in one call, and decide by callbacks"
            )
        said = json.loads(json.dumps(said))
        first_step = self.ended[-1].step if self.ended else 0
        is_ended = number <= len(self._known)
        restored = _NOTHING
        if is_ended:
            known = self._known[number - 1]
            self._check(said, known.said)
            # One without a step, after another one, has left no checkpoint of its own.
            if number == 1 or known.step > first_step:
                restored = Restored(self._end_of(known.step), (), ())
        elif number == self._current:
            self._check(said, self._saved["said"])
            restored = self.restored
        return Call(number, said, first_step, restored, is_ended)

    @contextmanager
    def calling(self) -> Iterator[None]:
        """While a call of `fit` lasts; one that is made inside of another says nothing of it."""
        is_inside = self.is_calling
        self.is_calling = True
        try:
            with self.working():
                yield
        except BaseException as error:
            if not (is_inside or self.is_broken):
                self.failure = error
            raise
        finally:
            self.is_calling = is_inside
        self.failure = None

    @contextmanager
    def working(self) -> Iterator[None]:
        """While code of this package runs, which tells of its progress by itself."""
        self.num_working += 1
        try:
            yield
        finally:
            self.num_working -= 1

    def train(self, call: Call, model: Any, *, is_over: bool) -> None:
        """Note that a call changes its model from here on; the run is not complete, unless it is.

        Raises ConfigError when the model is that of a call that was broken off with nothing saved.
        """
        if call.restored.checkpoint is None and model in self.changed:
            raise ConfigError(
                f"call {call.number} of trainer.fit has no checkpoint to begin with, and the model "
                "is no longer as it was, since a call was broken off: make it anew, and after "
                "trainer.setup() the calls before this one, too"
            )
        self.is_training, self.failure = True, None
        if not is_over:
            # Of a plain script, whose run `trainer run` may have brought to its end.
            self.job.run.reopen()
        self.changed.add(model)
        if not call.is_ended:
            # Its arrays are in the model from then on: they need no place here.
            self.restored = _NOTHING

    def job_of(self, call: Call, **changes: Any) -> Job:
        """The job of that call, which saves what a later life must know of the script."""
        ended = [{"step": one.step, "said": one.said} for one in self.ended]
        state = {"call": call.number, "said": call.said, "ended": ended}
        kept = frozenset(one.step for one in self.ended)
        return replace(self.job, script=state, kept_steps=kept, **changes)

    def end(self, call: Call, model: Any, step: int, report: Mapping[str, Any]) -> None:
        """Note that a call is over at the run's global `step`, and what it has come to."""
        self.is_training = False
        self.changed.discard(model)
        self.ended.append(Ended(step, call.said))
        self.last = report

    def check_all_were_made(self) -> None:
        """CheckpointError when the script ended without a call that the run had begun."""
        if len(self.ended) < self._current:
            raise CheckpointError(
                f"the script came to its end without call {self.number} of trainer.fit, and run "
                f"{self.job.run.url} is in call {self._current} (step {self._begun_at}): make the "
                "same calls in each life, or use another run.dir"
            )

    def summary(self, seconds: float, script_sha256: str) -> dict[str, Any]:
        """What the run's `summary.json` says of a script that has come to its end."""
        logs = self.last.get("logs", {})
        return {
            "complete": True,
            "run": self.job.config.run_name,
            "script_sha256": script_sha256,
            "fits": len(self.ended),
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
                f"call {self.number} of trainer.fit in run {self.job.run.url} was another one:\n"
                f"{lines}\nchange it back, or use another run.dir"
            )

    def _end_of(self, step: int) -> Checkpoint:
        """What the next call had come to. Raises CheckpointError when it does not hold any more."""
        store = self.job.run.checkpoints
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
            f"the checkpoint of step {step}, where call {self.number} of trainer.fit ended, does "
            f"not hold ({problem}): restore it from a copy, or use another run.dir"
        )
