"""What a run's checkpoints are, for people and machines that look at them. No TensorFlow."""

from dataclasses import dataclass, field
from typing import Any

from trainer.checkpoint.format import Manifest
from trainer.checkpoint.store import CheckpointStore, Found
from trainer.errors import CheckpointError


@dataclass(frozen=True)
class Listed:
    """One checkpoint.

    verified: whether every byte was read and agrees; None if that was not asked for.
    num_bytes: what is stored of it. sha256: of model and optimizer, None when damaged.
    problem: why it cannot be restored.
    """

    step: int
    fence: int
    committed: bool
    verified: bool | None
    num_bytes: int
    sha256: str | None = None
    created: float | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    problem: str | None = None


def take_inventory(store: CheckpointStore, *, verify: bool) -> list[Listed]:
    """All checkpoints of a run, committed or not, in the order of restoring.

    Raises StorageError when the store refuses a read; damage is reported, not raised.
    """
    return [_look(store, found, verify=verify) for found in store.all()]


def _look(store: CheckpointStore, found: Found, *, verify: bool) -> Listed:
    size = store.stored_bytes(found.name)
    if found.problem is not None:
        return Listed(found.step, found.fence, False, False, size, problem=found.problem)
    try:
        manifest = store.read(found.name).manifest if verify else store.manifest(found.name)
    except CheckpointError as error:
        return Listed(found.step, found.fence, True, False, size, problem=str(error))
    return Listed(
        found.step, found.fence, True, True if verify else None, size,
        manifest.sha256, manifest.created, manifest.metrics,
    )  # fmt: skip


def describe(manifest: Manifest) -> dict[str, Any]:
    """A checkpoint's facts, JSON-ready."""
    state = manifest.state
    position = {k: v for k, v in state.get("position", {}).items() if k != "epoch_logs"}
    return {
        "step": manifest.step,
        "fence": manifest.fence,
        "created": manifest.created,
        "bytes": manifest.num_bytes,
        "sha256": manifest.sha256,
        "position": position,
        "metrics": manifest.metrics,
        "callbacks": sorted(state.get("callbacks", {})),
        **({"versions": state["versions"]} if "versions" in state else {}),
        "arrays": [
            {"name": array.name, "shape": list(array.shape), "dtype": array.dtype}
            for array in manifest.arrays
        ],
    }
