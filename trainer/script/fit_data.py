"""What `fit`, `evaluate` and `predict` were given, as data that a run can go on with."""

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from trainer.checkpoint.position import Position
from trainer.data.batches import BatchPipeline
from trainer.data.order import Order
from trainer.data.pipeline import Pipeline, Place
from trainer.data.source import MemorySource
from trainer.errors import ConfigError
from trainer.models.held import operations
from trainer.script.arrays import as_array, as_arrays, checksum, is_arrays, told
from trainer.script.orders import ArrayOrder, Shuffle
from trainer.script.sources import IndexedBatches, MadeBatches, StreamedBatches, elements, telling

_BATCH_SIZE = 32
VALIDATION = "validation"


@dataclass(frozen=True)
class Fed:
    """One argument's records or batches.

    sample: a batch of one. said: what makes it the same data in the next life, as plain JSON.
    is_anywhere: whether training can go on inside an epoch. make: (place, threads, micro-batches)
    -> its pipeline. batches: what makes them, where they are no records of arrays.
    """

    order: Order
    sample: Any
    said: Mapping[str, Any]
    is_anywhere: bool
    make: Callable[[Place, int, int], Pipeline | BatchPipeline]
    batches: MadeBatches | None = None


@dataclass(frozen=True)
class FitData:
    """Of one call; see `trainer.data.dataset.TrainingData`.

    first_epoch: the number of its first. validate_every: epochs from one validation to the next.
    """

    fed: Fed
    validation: Fed | None
    threads: int
    first_epoch: int = 0
    validate_every: int = 1

    def training(self, place: Place, *, micro_batches: int = 1) -> Pipeline | BatchPipeline:
        """Endless batches to train on."""
        if self.fed.batches is not None:
            self.fed.batches.first_epoch = self.first_epoch
        return self.fed.make(place, self.threads, micro_batches)

    def training_order(self) -> Order:
        """How many steps an epoch has, and which records each takes."""
        return self.fed.order

    def evaluation(self, text: str, place: Place) -> Pipeline | BatchPipeline:  # noqa: ARG002
        """Every record that is validated on once."""
        return (self.validation or self.fed).make(place, self.threads, 1)

    def count(self, text: str) -> int:  # noqa: ARG002
        """Records that are validated on."""
        return (self.validation or self.fed).order.num_records

    def passed(self, position: Position, *, reads: bool) -> None:
        """Let what makes the batches be as in a life that has come to this position.

        reads: see `MadeBatches.passed`.
        """
        ended = position.epochs_ended(self.fed.order.steps_per_epoch)
        if self.fed.batches is not None:
            self.fed.batches.passed(ended - self.first_epoch)
        # What is asked for by number is validated on as it is, and told of no epoch.
        if self.validation is None or self.validation.is_anywhere or not self.validation.batches:
            return
        validated = (ended - (position.phase == "validate")) // self.validate_every
        passes = validated - self.first_epoch // self.validate_every
        self.validation.batches.passed(passes, again=True, reads=reads)

    def class_names(self) -> dict[str, tuple[str, ...]]:
        """None are known."""
        return {}


def feed(
    parts: tuple[Any, Any, Any], *, batch_size: int | None, code: str,
    key: tuple[int, ...] = (), shuffle: Shuffle = False, steps: int | None = None,
    class_weight: Mapping[int, float] | None = None,
    on_read: Callable[[], None] = lambda: None,
) -> Fed:  # fmt: skip
    """The records of arrays, or the batches of whatever else x is.

    parts: x, y and the weights of records, as Keras' fit takes them. code: what it is called in
    messages. key: what an order is drawn from. steps: an epoch's; None for all. on_read: called at
    each batch that a stream gives, of which hours may come before the first that is trained on.

    Raises ConfigError for what a run could not go on with.
    """
    x, y, sample_weight = parts
    # Keras takes 0 for none.
    batch_size = whole(f"{code}: batch_size", batch_size) if batch_size else None
    steps = whole(f"{code}: the number of its steps", steps) if steps else None
    if class_weight is not None and sample_weight is not None:
        raise ConfigError(f"{code}: give class_weight or sample_weight, not both")

    def weigh(batch: Any) -> Any:
        return _with_class_weights(batch, class_weight)

    if is_arrays(x):
        arrays = keras.utils.pack_x_y_sample_weight(
            *(None if part is None else as_arrays(part) for part in (x, y, sample_weight))
        )
        return feed_arrays(weigh(arrays), batch_size, key, shuffle, steps, code)
    if x is None:
        raise ConfigError(f"{code} is missing")
    kind = type(x).__name__
    for name, given in (("y", y), ("sample_weight", sample_weight), ("batch_size", batch_size)):
        if given is not None:
            raise ConfigError(f"{code}: {name} is not used beside a {kind}, which gives batches")
    if hasattr(x, "__getitem__") and hasattr(x, "__len__") and not isinstance(x, tf.data.Dataset):
        return feed_indexed(x, code, weigh, key if shuffle else None, steps)
    return _feed_stream(x, code, weigh, steps, on_read)


def feed_arrays(
    arrays: Any, batch_size: int | None, key: tuple[int, ...], shuffle: Shuffle,
    steps: int | None, code: str,
) -> Fed:  # fmt: skip
    """numpy arrays [n, ...] of one n, in the structure of a batch.

    batch_size: None for 32, and where there are steps for as many as these make of all records.
    """
    flat = tf.nest.flatten(arrays)
    if any(array.ndim == 0 for array in flat):
        raise ConfigError(f"{code} holds a number where an array of records was expected")
    counts = sorted({len(array) for array in flat})
    if len(counts) != 1 or not counts[0]:
        raise ConfigError(f"{code}: its arrays have {told(counts)} records")
    if batch_size is None:
        batch_size = -(-counts[0] // steps) if steps else _BATCH_SIZE
    if steps == -(-counts[0] // batch_size):
        steps = None  # whole passes, with their smaller last batch
    order = ArrayOrder(counts[0], batch_size, key, shuffle, steps)
    source = MemorySource(tf.nest.map_structure(tf.constant, arrays))
    said = {
        "records": counts[0], "batch_size": batch_size, "steps_per_epoch": order.steps_per_epoch,
        "shuffle": shuffle, "content": f"{checksum(flat):08x}",
    }  # fmt: skip

    def make(place: Place, threads: int, micro_batches: int) -> Pipeline:
        return Pipeline(source, order, place, 0, threads, micro_batches)

    sample = tf.nest.map_structure(lambda array: array[:1], arrays)
    return Fed(order, sample, said, is_anywhere=True, make=make)


def feed_indexed(
    x: Any, code: str, weigh: Callable[[Any], Any], key: tuple[int, ...] | None, steps: int | None
) -> Fed:
    """A `PyDataset`, or anything whose batches are asked for by number."""
    batches = IndexedBatches(x, code, weigh, key=key, steps=steps)
    return _fed_batches(batches, is_anywhere=True, shuffle=key is not None)


def _feed_stream(
    x: Any, code: str, weigh: Callable[[Any], Any], steps: int | None, on_read: Callable[[], None]
) -> Fed:
    whole: float = 0
    shapes: list[tf.TensorShape] = []
    if isinstance(x, tf.data.Dataset):
        shapes = [getattr(spec, "shape", None) for spec in tf.nest.flatten(x.element_spec)]
        # Steps that are more than a pass begin another one.
        whole = max(_leaves_state(x), steps is not None and not _holds(x, steps))
        begin, length = elements(x), None if steps else _cardinality(x, code, on_read)
    elif isinstance(x, Iterator):
        if steps is None:
            raise ConfigError(f"{code} is a generator, whose length nobody knows: give its steps")
        whole = math.inf
        begin, length = lambda: x, None
    elif hasattr(x, "__iter__"):
        # Its own code may count, shuffle or draw anywhere in a pass.
        whole = math.inf
        begin, length = lambda: iter(x), len(x) if hasattr(x, "__len__") else None
        if not (length or steps):
            raise ConfigError(f"{code} is a {type(x).__name__} without a length: give its steps")
    else:
        raise ConfigError(
            f"{code} is a {type(x).__name__}: give arrays, a PyDataset, a tf.data.Dataset or a "
            "generator of batches"
        )
    batches = StreamedBatches(
        telling(begin, on_read), code, weigh,
        length=length, steps=steps, whole=whole, shapes=shapes,
    )  # fmt: skip
    return _fed_batches(batches, is_anywhere=False, shuffle=None)


def _fed_batches(
    batches: IndexedBatches | StreamedBatches, *, is_anywhere: bool, shuffle: bool | None
) -> Fed:
    order = batches.order
    said = {
        "batch_size": order.batch_size, "steps_per_epoch": order.steps_per_epoch,
        "shuffle": shuffle,
    }  # fmt: skip

    def make(place: Place, threads: int, micro_batches: int) -> BatchPipeline:
        return BatchPipeline(batches, place, threads, micro_batches)

    return Fed(order, batches.sample, said, is_anywhere, make, batches)


def _leaves_state(data: Any) -> float:
    """How many passes over a data set, or one that it is made of, are to be read to their ends.

    One fills a `cache`. All are where reading goes on to begin what a next pass sees in another
    order, and where Python's code makes the elements, which may draw.
    """
    if not isinstance(data, tf.data.Dataset):
        return 0
    # Not public, but nothing that is tells: where it fails, the data is read as if it had a cache.
    if not hasattr(data, "_inputs") or "Cache" in type(data).__name__:
        own: float = 1
    else:
        begins_later = re.search("Repeat|Concatenate", type(data).__name__)
        own = math.inf if begins_later or _is_of_generator(data) else 0
    return max([own, *map(_leaves_state, getattr(data, "_inputs", list)())])


def _is_of_generator(dataset: tf.data.Dataset) -> bool:
    made = (structured.function for structured in dataset._functions())
    return any(node.op == "GeneratorDataset" for function in made for node in operations(function))


def _holds(dataset: tf.data.Dataset, steps: int) -> bool:
    """Whether one pass is known to have so many batches, and to end."""
    return int(dataset.cardinality()) >= steps


def _cardinality(dataset: tf.data.Dataset, code: str, on_read: Callable[[], None]) -> int:
    length = int(dataset.cardinality())
    if length == tf.data.INFINITE_CARDINALITY:
        raise ConfigError(f"{code} has no end: give its steps")
    if length == tf.data.UNKNOWN_CARDINALITY:
        # Once in each life, a whole pass: those who mind say how many there are.
        length = 0
        for _ in dataset:
            length += 1
            on_read()
    return length


def whole(name: str, value: Any, *, least: int = 1) -> int:
    """An argument that is a number from `least` on, as a plain one; ConfigError for any other."""
    is_whole = hasattr(value, "__index__")
    if not is_whole or value < least:
        raise ConfigError(f"{name} is {value!r}: give a whole number of at least {least}")
    return int(value)


def _with_class_weights(batch: Any, weights: Mapping[int, float] | None) -> Any:
    """(x, y, weights of records) where classes have weights, as Keras' fit does it."""
    if weights is None:
        return batch
    x, y, given = keras.utils.unpack_x_y_sample_weight(batch)
    if given is not None or y is None or isinstance(y, dict | list | tuple):
        raise ConfigError("class_weight needs one y, and no sample_weight beside it")
    classes = as_array(y)
    if classes.ndim > 1 and classes.shape[-1] > 1:
        classes = classes.argmax(axis=-1)
    numbers, places = np.unique(np.round(classes.reshape(len(classes))), return_inverse=True)
    known = np.asarray([weights.get(int(number), 1.0) for number in numbers], np.float32)
    return x, y, known[places]
