"""Which checkpoint a start goes on from: the newest that holds, and what was passed over."""

from dataclasses import dataclass

from trainer.checkpoint.store import Checkpoint, CheckpointStore, DamagedError
from trainer.errors import CheckpointError


@dataclass(frozen=True)
class Restored:
    """The checkpoint to start from (None: step 0) and why newer ones were skipped."""

    checkpoint: Checkpoint | None
    skipped: tuple[str, ...]


def newest(store: CheckpointStore, *, start_over: bool = False) -> Restored:
    """The newest committed checkpoint whose every byte verifies.

    Raises CheckpointError when there are committed ones and all are damaged, unless
    `start_over`; a run never silently restarts at 0.
    """
    skipped: list[str] = []
    damaged = 0
    for found in reversed(store.all()):
        if not found.committed:
            skipped.append(f"checkpoint {found.name} has no COMMIT marker")
            continue
        try:
            return Restored(store.read(found.name), tuple(skipped))
        except DamagedError as error:
            damaged += 1
            skipped.append(str(error))
    if damaged and not start_over:
        reasons = "".join(f"\n  {reason}" for reason in skipped)
        raise CheckpointError(
            f"all {damaged} committed checkpoints are damaged:{reasons}\n"
            "restore them from a copy, use another run.dir, or set checkpoint.start_over=true"
        )
    return Restored(None, tuple(skipped))
