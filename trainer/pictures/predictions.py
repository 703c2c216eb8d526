"""`predictions`: sample images with what they are, and what the model takes them for."""

import math
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from trainer.errors import ConfigError
from trainer.pictures.classes import Classified, names_of
from trainer.pictures.figure import BLUE, RED, head, new_figure
from trainer.pictures.split import SplitPicture

_COLUMNS = 5
_MOST_IMAGES = 100


@dataclass(frozen=True)
class _Sample:
    """One record: its image, its true class, the predicted one and how sure the model is of it."""

    image: Any
    true: int
    predicted: int
    probability: float

    def title(self, names: tuple[str, ...]) -> str:
        """Two lines; the sign also tells those who see no colours."""
        if self.predicted == self.true:
            return f"✓ {names[self.true]}\n{self.probability:.0%}"
        return f"✗ {names[self.predicted]} {self.probability:.0%}\ntrue: {names[self.true]}"


class Predictions(SplitPicture):
    """A grid of images from all over the split.

    Args:
        output: which output is shown, by default the first that tells classes.
        count: so many images.
        mistakes: only records that the model gets wrong, those first of which it is surest.
    """

    def __init__(
        self, file: str = "predictions.png", split: str | None = None, *,
        output: str | None = None, count: int = 20, mistakes: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(file, split)
        if not 1 <= count <= _MOST_IMAGES:
            raise ValueError(f"count {count} must be from 1 to {_MOST_IMAGES}")
        self._output, self._count, self._mistakes = output, count, mistakes

    def check_first(self, x: Any, found: list[Classified]) -> None:
        """Refuse what is no image, and an output that is not there."""
        _images(x)
        self._shown(found)

    def figure(self) -> Any:
        """The picture."""
        samples, names = self._samples()
        columns = min(_COLUMNS, max(len(samples), 1))
        rows = max(math.ceil(len(samples) / columns), 1)
        figure = new_figure(max(1.8 * columns, 4), 0.5 + 2.1 * rows)
        images = _scaled([sample.image for sample in samples])
        for number, (sample, image) in enumerate(zip(samples, images, strict=True)):
            axes = figure.add_subplot(rows, columns, number + 1)
            axes.axis("off")
            axes.imshow(image, cmap="gray", vmin=0, vmax=1)
            colour = BLUE if sample.predicted == sample.true else RED
            axes.set_title(sample.title(names), color=colour, size=8)
        what = (
            ("the surest mistakes" if samples else "no mistakes") if self._mistakes else "samples"
        )
        head(figure, f"{self.run.name}, {self.split}: {what}")
        return figure

    def _shown(self, found: list[Classified]) -> Classified:
        names = [output.name for output in found]
        if self._output is not None and self._output not in names:
            raise ConfigError(
                f"callback Predictions: no output '{self._output}' tells classes: use one of "
                f"{', '.join(names)}"
            )
        return found[names.index(self._output) if self._output else 0]

    def _samples(self) -> tuple[list[_Sample], tuple[str, ...]]:
        """Those that are shown, and the names of the classes."""
        num_records = self.run.count(self.split)
        spread = np.linspace(0, num_records - 1, min(self._count, num_records)).astype(int)
        # As of probabilities and of logits: one record may tell, and be the last.
        samples: dict[bool, list[_Sample]] = {False: [], True: []}
        done, are_logits = 0, False
        for x, found in self.batches():
            shown, images = self._shown(found), _images(x)
            are_logits |= not shown.look_like_probabilities
            of_batch = spread[(spread >= done) & (spread < done + len(images))] - done
            for of_logits, kept in samples.items():
                kept.extend(self._of_batch(images, shown, of_batch, of_logits=of_logits))
                if self._mistakes:
                    kept.sort(key=lambda sample: -sample.probability)
                    del kept[self._count :]
            done += len(images)
        names = names_of(shown.name, shown.num_classes, self.run.class_names())
        return samples[are_logits], names

    def _of_batch(
        self, images: Any, shown: Classified, spread: Any, *, of_logits: bool
    ) -> list[_Sample]:
        """Those at the places `spread` of a batch, or its mistakes."""
        likely = shown.probabilities(of_logits=of_logits)
        predicted = likely.argmax(axis=1)
        places = np.flatnonzero(predicted != shown.targets) if self._mistakes else spread
        return [
            _Sample(images[i], int(shown.targets[i]), int(predicted[i]), float(likely[i].max()))
            for i in places
        ]


def _images(x: Any) -> Any:
    """[n, height, width] or [n, height, width, 3] of a model's one input; else ConfigError."""
    inputs = [np.asarray(tensor) for tensor in keras.tree.flatten(x)]
    shapes = [array.shape[1:] for array in inputs]
    if len(inputs) == 1 and len(shapes[0]) == 3 and shapes[0][2] in (1, 3):
        return inputs[0][..., 0] if shapes[0][2] == 1 else inputs[0]
    if len(inputs) == 1 and len(shapes[0]) == 2:
        return inputs[0]
    raise ConfigError(
        f"callback Predictions draws images, one input of [height, width] or [height, width, 1 or "
        f"3], and a record's input is {' and '.join(map(str, map(list, shapes)))}: leave it out"
    )


def _scaled(images: list[Any]) -> list[Any]:
    """The same between 0 and 1, in which range or in that of bytes they mostly are already."""
    if not images:
        return []
    low, high = min(map(np.min, images)), max(map(np.max, images))
    if low >= 0:
        low, high = 0, 1 if high <= 1 else max(high, 255)
    return [(image.astype(np.float32) - low) / (high - low) for image in images]
