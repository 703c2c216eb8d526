"""`loss_curves`: loss and metrics of training and validation, epoch by epoch."""

import math
from typing import Any

import numpy as np

from trainer.pictures.figure import BLUE, RED, head, new_figure, show_epochs
from trainer.pictures.picture import Picture

_COLUMNS = 3
_MOST_MARKERS = 40
# Training and validation differ in more than their colours.
_TRAINING = {"color": BLUE, "marker": "o", "linestyle": "-"}
_VALIDATION = {"color": RED, "marker": "s", "linestyle": "--"}


class LossCurves(Picture):
    """A panel for the loss and for each metric; see `Picture` for arguments."""

    def __init__(self, file: str = "loss_curves.png", every_seconds: float = 10.0) -> None:
        super().__init__(file, every_seconds)
        # By name in the logs: (epoch, value) of those that had one, counted from 1.
        self._curves: dict[str, list[tuple[float, float]]] = {}

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Add a point to each curve."""
        for name, value in (logs or {}).items():
            self._curves.setdefault(name, []).append((epoch + 1.0, float(value)))
        self.draw_now_and_then()

    def get_state(self) -> dict[str, Any]:
        """All curves."""
        return {"curves": {name: np.asarray(points) for name, points in self._curves.items()}}

    def set_state(self, state: dict[str, Any]) -> None:
        """Go on with them."""
        self._curves = {
            name: [(float(epoch), float(value)) for epoch, value in points]
            for name, points in state["curves"].items()
        }

    def figure(self) -> Any:
        """The picture."""
        names = {name.removeprefix("val_") for name in self._curves}
        panels = sorted(names, key=lambda name: (name != "loss", name)) or ["loss"]
        columns = min(len(panels), _COLUMNS)
        rows = math.ceil(len(panels) / columns)
        last = max((points[-1][0] for points in self._curves.values()), default=1)
        figure = new_figure(1 + 4.5 * columns, 0.5 + 3.5 * rows)
        for number, name in enumerate(panels):
            axes = figure.add_subplot(rows, columns, number + 1)
            axes.set_title(name)
            self._plot(axes, name, "training", _TRAINING)
            self._plot(axes, f"val_{name}", "validation", _VALIDATION)
            show_epochs(axes, 0.5, last + 0.5)
            if len(axes.lines) > 1:
                axes.legend()
        head(figure, self.run.name)
        return figure

    def _plot(self, axes: Any, name: str, label: str, look: dict[str, str]) -> None:
        points = self._curves.get(name)
        if not points:
            return
        epochs, values = np.asarray(points).T
        if name.startswith("val_") and name.endswith("loss") and np.isfinite(values).any():
            best = int(np.nanargmin(values))
            label += f", least {values[best]:.3g} in epoch {epochs[best]:.0f}"
        marked = look if len(values) <= _MOST_MARKERS else look | {"marker": ""}
        axes.plot(epochs, values, label=label, markersize=3, **marked)
