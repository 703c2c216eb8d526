"""What a recipe says about its records: how one becomes a model's input."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class DataSpec:
    """Functions on one record, traced into the tf.data graph.

    decode: {feature: tensor}, as TensorFlow Datasets decodes it -> (x, y) or (x, y, weight).
    It must not be random: its results may be held in memory.
    augment: (example, seed) -> example, with `seed` an int32 tensor [2] that depends on (run's
    seed, epoch, record) alone: hand it to `tf.random.stateless_*`.
    batches: (`trainer.data.batches.Records`, batch_size, seed) -> a `keras.utils.PyDataset`, which
    makes the batches of training itself.
    """

    decode: Callable[[dict[str, Any]], Any]
    augment: Callable[[Any, Any], Any] | None = None
    batches: Callable[[Any, int, int], Any] | None = None
