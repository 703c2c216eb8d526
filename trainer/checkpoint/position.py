"""How far a run has come: what a checkpoint says beside its arrays."""

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Phase = Literal["train", "validate"]


@dataclass(frozen=True)
class Position:
    """`step` global steps are done.

    phase: `validate` when the validation pass of the epoch that `step` ends is still to be
    made; it starts again from its beginning.
    epoch_logs: the metrics of that epoch's training, by name, for its `on_epoch_end`.
    stop_training: a callback has ended training before its last epoch.
    """

    step: int = 0
    phase: Phase = "train"
    epoch_logs: dict[str, float] = field(default_factory=dict)
    stop_training: bool = False

    def is_over(self, target_step: int) -> bool:
        """Whether nothing is left to train or to validate."""
        return self.phase == "train" and (self.stop_training or self.step >= target_step)

    def to_json(self) -> dict[str, Any]:
        """As plain JSON data."""
        return asdict(self)

    @classmethod
    def from_json(cls, tree: dict[str, Any]) -> "Position":
        """From `to_json`."""
        return cls(**tree)
