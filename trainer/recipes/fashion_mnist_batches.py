"""The training batches of recipe `fashion_mnist`, made by a `keras.utils.PyDataset`."""

import math
from typing import Any

import keras
import numpy as np

from trainer.data.batches import Records
from trainer.data.order import permutation


class MirroredImages(keras.utils.PyDataset):
    """Images in a new order each epoch, and half of them mirrored.

    All draws follow from (seed, epoch, batch), so that a run goes on in the middle of an epoch.
    """

    def __init__(self, records: Records, batch_size: int, seed: int) -> None:
        super().__init__()
        self._records = records
        self._batch_size = batch_size
        self._seed = seed
        self._epoch = 0
        self._order = permutation(len(records), seed, 0)

    def __len__(self) -> int:
        return math.ceil(len(self._records) / self._batch_size)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        """(float32 [n, 28, 28, 1], int64 [n]) of one step."""
        start = index * self._batch_size
        images, labels = self._records[self._order[start : start + self._batch_size]]
        draws = np.random.default_rng((self._seed, self._epoch, index)).random(len(images))
        mirrored = np.where(draws[:, None, None, None] < 0.5, images[:, :, ::-1], images)
        return mirrored, labels

    def on_epoch_end(self) -> None:
        """Shuffle for the next epoch."""
        self._epoch += 1
        self._order = permutation(len(self._records), self._seed, self._epoch)
