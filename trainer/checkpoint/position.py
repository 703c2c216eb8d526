"""How far a run has come, and how far it goes."""

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Phase = Literal["train", "validate"]


@dataclass(frozen=True)
class Position:
    """`step` steps are done.

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

    def epoch(self, steps_per_epoch: int) -> int:
        """The epoch, from 0, that is trained or validated next."""
        # A callback may stop training inside an epoch, which is then validated as it is.
        return (self.step - (self.phase == "validate")) // steps_per_epoch

    def epochs_ended(self, steps_per_epoch: int) -> int:
        """Epochs that came to their end, whether whole or because a callback ended training."""
        ended, more = divmod(self.step, steps_per_epoch)
        return ended + (self.stop_training and more > 0)

    def is_inside_epoch(self, steps_per_epoch: int) -> bool:
        """Whether the epoch that goes on was begun before."""
        return self.phase == "validate" or self.step % steps_per_epoch > 0

    def to_json(self) -> dict[str, Any]:
        """As plain JSON data."""
        return asdict(self)

    @classmethod
    def from_json(cls, tree: dict[str, Any]) -> "Position":
        """From `to_json`."""
        return cls(**tree)


@dataclass(frozen=True)
class Schedule:
    """How far training goes, and how far one call may.

    call_ends: steps that no call goes beyond. first_step: global steps of the run before step 0 of
    this schedule, since a script may train often. saves_inside: whether a run may go on inside an
    epoch, or at its ends alone.
    """

    epochs: int
    steps_per_epoch: int
    steps_per_call: int | None = None
    call_seconds: float = 2.0
    validate_every: int = 1
    call_ends: tuple[int, ...] = ()
    first_step: int = 0
    saves_inside: bool = True

    @property
    def target_step(self) -> int:
        """The step at which training is complete."""
        return self.epochs * self.steps_per_epoch
