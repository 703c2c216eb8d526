"""Which records, or which batches, each step of a call of `fit` takes.

Pure functions of (seed, epoch, step), as in `trainer.data.order`: the same at any world size.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np

from trainer.data.order import Ids, permutation

Shuffle = bool | Literal["batch"]


@dataclass(frozen=True, eq=False)
class ArrayOrder:
    """Records of arrays, shuffled anew in each pass.

    shuffle: "batch" keeps the records of a batch together, as Keras does.
    steps: an epoch's, where it is no whole pass: each goes on where the one before ended.
    """

    count: int
    batch_size: int
    key: tuple[int, ...] = ()
    shuffle: Shuffle = True
    steps: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "_pass", lru_cache(maxsize=2)(self._pass))

    @property
    def num_records(self) -> int:
        """Records of one epoch."""
        return self.count if self.steps is None else self.steps * self.batch_size

    @property
    def steps_per_epoch(self) -> int:
        """Global steps of one epoch."""
        return -(-self.count // self.batch_size) if self.steps is None else self.steps

    def step_ids(self, epoch: int, step: int, num_workers: int = 1) -> Ids:  # noqa: ARG002
        """Records of one global step."""
        start = step * self.batch_size
        if self.steps is None:
            return self._pass(epoch)[start : start + self.batch_size]
        start += epoch * self.steps * self.batch_size
        first, last = start // self.count, (start + self.batch_size - 1) // self.count
        records = np.concatenate([self._pass(number) for number in range(first, last + 1)])
        return records[start - first * self.count :][: self.batch_size]

    def _pass(self, number: int) -> Ids:
        if not self.shuffle:
            return np.arange(self.count)
        if self.shuffle != "batch":
            return permutation(self.count, *self.key, number)
        batches = shuffled_batches(-(-self.count // self.batch_size), *self.key, number)
        records = (batches[:, np.newaxis] * self.batch_size + np.arange(self.batch_size)).ravel()
        return records[records < self.count]


def shuffled_batches(count: int, *key: int) -> Ids:
    """Numbers of batches in another order; the last one, which may be smaller, stays the last."""
    return np.append(permutation(count - 1, *key), count - 1)


class RowsOrder:
    """The steps of batches that somebody else makes; a record's number is its row in the batch."""

    def __init__(self, source: Any, batch_size: int, steps_per_epoch: int) -> None:
        self._source = source
        self.batch_size = batch_size
        self.steps_per_epoch = steps_per_epoch

    @property
    def num_records(self) -> int:
        """Records of one epoch, as far as they are known before it."""
        return self.steps_per_epoch * self.batch_size

    def step_ids(self, epoch: int, step: int, num_workers: int = 1) -> Ids:  # noqa: ARG002
        """The rows of one batch."""
        return np.arange(self._source.num_rows(epoch, step))
