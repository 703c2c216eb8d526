"""Keys of `checkpoint`."""

from typing import Literal

from pydantic import field_validator

from trainer.config.fields import Section, free


class BestConfig(Section):
    """Which checkpoint counts as the best."""

    metric: str = free("val_loss", help="A log name of an epoch, as in val_loss.")
    mode: Literal["auto", "min", "max"] = free(
        "auto",
        help="Whether lower or higher is better; auto takes higher for accuracy, auc, "
        "precision, recall and f1, else lower.",
    )

    @property
    def is_higher_better(self) -> bool:
        """What `mode` says, or stands for."""
        rising = any(word in self.metric for word in ("acc", "auc", "precision", "recall", "f1"))
        return self.mode == "max" or (self.mode == "auto" and rising)


class CheckpointConfig(Section):
    """When to save and what to keep."""

    every_epochs: int | None = free(1, help="Save after every so many epochs.", ge=1)
    every_steps: int | None = free(None, help="Save after every so many steps.", ge=1)
    every_seconds: float | Literal["auto"] | None = free(
        None, help="Save after so much time; auto balances the cost of a save against the "
        "work that a failure loses (Young 1974)."
    )  # fmt: skip
    failures_per_day: float = free(
        1.0, help="Expected failures of the whole run a day, for every_seconds: auto.", gt=0
    )
    keep_last: int = free(3, help="Newest checkpoints to keep.", ge=1)
    keep_every_steps: int | None = free(
        None, help="Keep for ever each checkpoint whose step is a multiple of this.", ge=1
    )
    best: BestConfig | None = free(
        None, help="Also keep the best, by a metric of the epoch that it ends."
    )
    background: bool = free(True, help="Write while training goes on.")
    start_over: bool = free(
        False, help="Start at step 0 when every checkpoint of the run is damaged."
    )

    @field_validator("every_seconds")
    @classmethod
    def _positive(cls, value: float | str | None) -> float | str | None:
        if isinstance(value, float) and value <= 0:
            raise ValueError("must be more than 0, or auto")
        return value
