"""`loss_history`: the loss of every step of each epoch, in one picture that grows."""

from typing import Any

import numpy as np

from trainer.callbacks.curves import is_mean
from trainer.pictures.figure import BLUE, GREY, head, new_figure, show_epochs
from trainer.pictures.picture import Picture
from trainer.pictures.series import Series

# Of all points, so many are averaged for the line that shows where the loss goes.
_SMOOTHED = 1 / 50
_MOST_MARKED_EPOCHS = 60


class LossHistory(Picture):
    """Each step's loss as a thin line, and their moving average; see `Picture` for arguments."""

    def __init__(self, file: str = "loss_history.png", every_seconds: float = 10.0) -> None:
        super().__init__(file, every_seconds)
        self._losses = Series()
        self._are_means: bool | None = None
        self._reset()

    def _reset(self) -> None:
        self._mean, self._records = 0.0, 0

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        """Begin the epoch's mean anew."""
        self._reset()

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Keep one step's loss."""
        if "loss" in (logs or {}):
            self._losses.add(self._loss_of(batch, float((logs or {})["loss"])))

    def _loss_of(self, batch: int, logged: float) -> float:
        """The step's own loss: most models log the mean of the epoch so far, as Keras does."""
        if self._are_means is None:
            self._are_means = any(
                each.name == "loss" and is_mean(each) for each in self.model.metrics
            )
        if not self._are_means:
            return logged
        records = min((batch + 1) * self.run.batch_size, self.run.num_records)
        new = max(records - self._records, 1)
        loss = (logged * records - self._mean * self._records) / new
        self._mean, self._records = logged, records
        return loss

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        """Let the picture grow."""
        self.draw_now_and_then()

    def get_state(self) -> dict[str, Any]:
        """All losses, and where the epoch's mean stands."""
        return {"mean": self._mean, "records": self._records, "losses": self._losses.get_state()}

    def set_state(self, state: dict[str, Any]) -> None:
        """Go on from there, maybe inside of an epoch."""
        self._mean, self._records = float(state["mean"]), int(state["records"])
        self._losses.set_state(state["losses"])

    def figure(self) -> Any:
        """The picture."""
        figure = new_figure(9, 4.5)
        axes = figure.add_subplot()
        epochs = self._losses.middles() / self.run.steps_per_epoch
        low, mean, high = self._losses.points().T
        each = self._losses.steps_per_point
        if each > 1:
            axes.fill_between(epochs, low, high, color=BLUE, alpha=0.2, linewidth=0)
        label = "each step" if each == 1 else f"mean, least and greatest of {each} steps"
        axes.plot(epochs, mean, color=BLUE, alpha=0.55, linewidth=0.8, label=label)
        width = int(len(mean) * _SMOOTHED)
        if width > 1:
            smooth = np.convolve(mean, np.ones(width) / width, "valid")
            middle = np.convolve(epochs, np.ones(width) / width, "valid")
            # Dark on light, and wide on narrow: it needs no second colour.
            axes.plot(middle, smooth, color="black", label=f"average of {width * each} steps")
        last = int(np.ceil(epochs[-1])) if len(epochs) else 1
        if last <= _MOST_MARKED_EPOCHS:
            for epoch in range(1, last):
                axes.axvline(epoch, color=GREY, linewidth=0.5, alpha=0.35)
        axes.grid(visible=False, axis="x")
        axes.set_ylabel("training loss")
        axes.legend()
        show_epochs(axes, 0, last)
        head(figure, f"{self.run.name}: loss of every step")
        return figure
