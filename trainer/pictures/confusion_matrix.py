"""`confusion_matrix`: which classes the model takes for which, on all records of a split."""

from typing import Any

import numpy as np

from trainer.pictures.classes import Classified, names_of
from trainer.pictures.figure import head, new_figure
from trainer.pictures.split import SplitPicture

# With more classes, numbers and names would be too small to be read.
_MOST_NUMBERS = 25
_MOST_NAMES = 60
_INCHES_A_CLASS = 0.45


class _Counts:
    """int [true classes, predicted classes] of one output, as of probabilities and of logits."""

    def __init__(self, num_classes: int) -> None:
        self._counts = {kind: np.zeros((num_classes,) * 2, np.int64) for kind in (False, True)}
        self._are_logits = False

    def add(self, found: Classified) -> None:
        for of_logits, counts in self._counts.items():
            predicted = found.probabilities(of_logits=of_logits).argmax(axis=1)
            np.add.at(counts, (found.targets, predicted), 1)
        # One record may tell; what was counted before it is right all the same.
        self._are_logits |= not found.look_like_probabilities

    @property
    def matrix(self) -> Any:
        return self._counts[self._are_logits]


class ConfusionMatrix(SplitPicture):
    """A matrix for each output that tells classes; see `SplitPicture` for arguments."""

    def __init__(self, file: str = "confusion_matrix.png", split: str | None = None) -> None:
        super().__init__(file, split)

    def figure(self) -> Any:
        """The picture."""
        matrices = self._matrices()
        sides = [_side(len(matrix)) for matrix in matrices.values()]
        figure = new_figure(sum(sides), max(sides))
        panels = figure.subplots(1, len(matrices), squeeze=False, width_ratios=sides)[0]
        known = self.run.class_names()
        for axes, (name, matrix) in zip(panels, matrices.items(), strict=True):
            _draw(axes, matrix, names_of(name, len(matrix), known))
            right = f"{matrix.trace() / matrix.sum():.1%} of {matrix.sum():,} right"
            axes.set_title(right if len(matrices) == 1 else f"{name}: {right}")
        head(figure, f"{self.run.name}, {self.split}")
        return figure

    def _matrices(self) -> dict[str, Any]:
        counts: dict[str, _Counts] = {}
        for _, found in self.batches():
            for output in found:
                counts.setdefault(output.name, _Counts(output.num_classes)).add(output)
        matrices = {name: count.matrix for name, count in counts.items()}
        # Numbers may be 0 and 1 in some batches without being classes.
        num_records = self.run.count(self.split)
        matrices = {name: m for name, m in matrices.items() if m.sum() == num_records}
        if not matrices:
            raise ValueError("no output tells a class for every record")
        return matrices


def _side(num_classes: int) -> float:
    """Inches of a matrix with its names and its title."""
    return 2.2 + _INCHES_A_CLASS * min(max(num_classes, 4), _MOST_NUMBERS)


def _draw(axes: Any, matrix: Any, names: tuple[str, ...]) -> None:
    """Colours are shares of each true class, so that rare classes are seen, too."""
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.grid(visible=False)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    if len(names) <= _MOST_NAMES:
        is_long = max(map(len, names)) > 3
        turned = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"} if is_long else {}
        axes.set_xticks(range(len(names)), names, **turned)
        axes.set_yticks(range(len(names)), names)
    if len(names) <= _MOST_NUMBERS:
        for (row, column), count in np.ndenumerate(matrix):
            colour = "white" if shares[row, column] > 0.5 else "black"
            if count:
                axes.text(column, row, f"{count}", ha="center", va="center", color=colour, size=8)
