"""What pictures of a split's records have in common: they show the model at the end of training."""

from collections.abc import Iterator
from typing import Any

from trainer.errors import ConfigError
from trainer.pictures.classes import Classified, classified
from trainer.pictures.picture import Picture


class SplitPicture(Picture):
    """Draws when training has ended; `split` is that of validation unless one is named.

    It shows the weights that the callbacks before it in the list have left: EarlyStopping's best
    ones where it restores them and stands before.
    """

    def __init__(self, file: str, split: str | None = None) -> None:
        super().__init__(file)
        self._split = split

    @property
    def split(self) -> str:
        """The split or slice whose records are looked at."""
        split = self._split or self.run.validation
        if split is None:
            raise ConfigError(
                f"callback {type(self).__name__} needs a split of records: set data.validation, or "
                "name one in its args, as in {split: test}"
            )
        return split

    def check(self) -> None:
        """Look at the first records, as the model is before training."""
        self.run.count(self.split)
        x, found = next(self.batches())
        if not found:
            raise ConfigError(
                f"callback {type(self).__name__} needs an output that tells classes: two or more "
                "columns with class numbers or one-hot targets, or one column with targets 0 and 1"
            )
        self.check_first(x, found)

    def check_first(self, x: Any, found: list[Classified]) -> None:
        """ConfigError when records of this kind cannot be drawn."""

    def batches(self) -> Iterator[tuple[Any, list[Classified]]]:
        """(x, outputs that tell classes) of all records, a batch at a time."""
        for x, y, outputs in self.run.predict(self.split):
            yield x, classified(y, outputs, self.run.output_names)
