"""Which checkpoint a start goes on from: the newest that holds, and what was passed over."""

from collections.abc import Iterable
from dataclasses import dataclass

from trainer.agreement import Agreement
from trainer.checkpoint.names import folder_name
from trainer.checkpoint.parts import DamagedError
from trainer.checkpoint.policy import Kept, best_of
from trainer.checkpoint.store import Checkpoint, CheckpointStore, Found
from trainer.config import CheckpointConfig
from trainer.errors import CheckpointError, ConfigError


@dataclass(frozen=True)
class Restored:
    """The checkpoint to start from (None: step 0) and what newer there was.

    damaged: committed ones that do not hold, newest first; `reasons` says of each, and of newer
    folders without a marker, why it was skipped.
    """

    checkpoint: Checkpoint | None
    damaged: tuple[Found, ...]
    reasons: tuple[str, ...]


def newest(
    store: CheckpointStore, *, start_over: bool = False, agreement: Agreement | None = None
) -> Restored:
    """The newest committed checkpoint whose every byte verifies.

    Of workers that agree, the chief says which one to read, and it has to verify for all of them.
    Raises CheckpointError when there are committed ones and all are damaged, unless `start_over`;
    a run never silently restarts at 0.
    """
    of_chief, holds_for_all = (
        (agreement.of_chief, agreement.all) if agreement is not None else (str, bool)
    )
    all_found = list(reversed(store.all()))
    reasons: list[str] = []
    names = iter([found.name for found in all_found if found.committed])
    damaged: list[Found] = []
    while name := of_chief(next(names, "")):
        try:
            checkpoint, problem = store.read(name), None
        except DamagedError as error:
            checkpoint, problem = None, str(error)
        if holds_for_all(checkpoint is not None):
            newer = _problems(found for found in all_found if found > Found.of_name(name))
            return Restored(checkpoint, tuple(damaged), (*newer, *reasons))
        damaged.append(Found.of_name(name))
        reasons.append(problem or f"checkpoint {name} does not hold for another worker")
    if damaged and not start_over:
        lines = "".join(f"\n  {reason}" for reason in (*_problems(all_found), *reasons))
        raise CheckpointError(
            f"all {len(damaged)} committed checkpoints are damaged:{lines}\n"
            "restore them from a copy, use another run.dir, or set checkpoint.start_over=true"
        )
    return Restored(None, tuple(damaged), (*_problems(all_found), *reasons))


def _problems(all_found: Iterable[Found]) -> list[str]:
    return [found.problem for found in all_found if found.problem is not None]


def choose(store: CheckpointStore, which: str, config: CheckpointConfig, run: str) -> Checkpoint:
    """The verified checkpoint that `which` names: a step's number, `last` or `best`.

    Raises ConfigError when the run has none such, CheckpointError when it is damaged.
    """
    committed = [found for found in store.all() if found.committed]
    if not committed:
        raise ConfigError(f"run {run} has no committed checkpoint")
    if which == "last" and (checkpoint := newest(store).checkpoint) is not None:
        return checkpoint
    if which == "best":
        if config.best is None:
            raise ConfigError(
                f"run {run} keeps no best checkpoint: set checkpoint.best.metric, as in val_loss"
            )
        scored = [Kept(f.step, f.fence, store.metrics(f.name)) for f in committed]
        best = best_of(scored, config)
        if best is None:
            raise ConfigError(
                f"no checkpoint of run {run} has the metric '{config.best.metric}' of "
                "checkpoint.best"
            )
        return store.read(folder_name(best.step, best.fence))
    steps = {str(found.step): found for found in committed}
    if which not in steps:
        raise ConfigError(f"run {run} has no checkpoint of step {which}: {', '.join(steps)}")
    return store.read(steps[which].name)
