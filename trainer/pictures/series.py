"""A number for each step, in bounded memory, whatever the number of steps."""

from typing import Any

import numpy as np

# More than a picture has columns. Even: points become one by twos.
_MOST_POINTS = 4096


class Series:
    """Numbers in order. When there are too many, every two neighbours become one point.

    A point is (least, mean, greatest) of its steps, so that no outlier is lost.
    """

    def __init__(self) -> None:
        self.steps_per_point = 1
        self._points: list[tuple[float, float, float]] = []
        self._waiting: list[float] = []

    def add(self, value: float) -> None:
        """Append the next step's number."""
        self._waiting.append(value)
        if len(self._waiting) < self.steps_per_point:
            return
        mean = sum(self._waiting) / self.steps_per_point
        self._points.append((min(self._waiting), mean, max(self._waiting)))
        self._waiting.clear()
        if len(self._points) == _MOST_POINTS:
            low, mean, high = self.points().reshape(-1, 2, 3).transpose(2, 0, 1)
            merged = zip(low.min(axis=1), mean.mean(axis=1), high.max(axis=1), strict=True)
            self._points = [(float(a), float(b), float(c)) for a, b, c in merged]
            self.steps_per_point *= 2

    def points(self) -> Any:
        """float64 [points, 3]: least, mean and greatest of each; the newest steps may lack."""
        return np.asarray(self._points, np.float64).reshape(-1, 3)

    def middles(self) -> Any:
        """float64 [points]: the number of steps up to the middle of each point."""
        return (np.arange(len(self._points)) + 0.5) * self.steps_per_point

    def get_state(self) -> dict[str, Any]:
        """All of it, as arrays."""
        return {
            "steps_per_point": self.steps_per_point,
            "points": self.points(),
            "waiting": np.asarray(self._waiting, np.float64),
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """The opposite."""
        self.steps_per_point = int(state["steps_per_point"])
        self._points = [(float(a), float(b), float(c)) for a, b, c in state["points"]]
        self._waiting = [float(value) for value in state["waiting"]]
