"""Batches that a recipe makes itself: a `keras.utils.PyDataset` over the records of the run.

`source[i]` is step i's global batch, `on_epoch_end` shuffles for the next epoch, and what is done
to records in between is the source's own. A run goes on at any step: a new source is told of each
epoch that is over and asked for the batches that are left. So what it gives must depend on its
seed, the epoch and i alone. Each worker makes the whole batch and keeps its share.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import tensorflow as tf

from trainer.data.fetching import Fetching
from trainer.data.order import Ids, Order
from trainer.data.pipeline import Place, options_of, shares_of
from trainer.data.source import MemorySource, RecordSource
from trainer.errors import ConfigError
from trainer.user_code import user_code

_CODE = "the data set of batches"


class Records(Sequence[Any]):
    """The decoded examples of a slice, by number from 0: numpy arrays as `decode` gives tensors."""

    def __init__(self, source: RecordSource | MemorySource) -> None:
        self._source = source

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, numbers: Any) -> Any:
        """One example, or for an array of numbers [n] as many, batched."""
        ids = np.atleast_1d(np.arange(len(self))[numbers]) + self._source.first
        if isinstance(self._source, MemorySource):
            found = self._source.gather(ids)
        else:
            found = self._source.decode.batch(tf.constant(self._source.read(ids), tf.string))
        is_one = np.ndim(numbers) == 0 and not isinstance(numbers, slice)
        return tf.nest.map_structure(lambda t: t.numpy()[0] if is_one else t.numpy(), found)


@dataclass(frozen=True)
class BatchOrder:
    """The steps of such batches; a record's number is its row in the batch."""

    batch_size: int
    steps_per_epoch: int
    num_records: int

    def step_ids(self, epoch: int, step: int, num_workers: int = 1) -> Ids:  # noqa: ARG002
        """The rows of one batch."""
        return np.arange(min(self.batch_size, self.num_records - step * self.batch_size))


class Batches:
    """A source of batches and where it stands; `make` gives a new one, before its first epoch.

    Raises ConfigError for a source whose batches a run could not repeat, or not share out.
    """

    is_in_order = False

    def __init__(self, make: Callable[[], Any], batch_size: int, *, drop_last: bool) -> None:
        self._make = make
        self._last: tuple[tuple[int, int], Any] | None = None
        self.failure: Exception | None = None
        with user_code(_CODE):
            steps = len(self._start())
            if steps < 1:
                raise ConfigError(f"{_CODE} has no batch: its len is {steps}")
            self._length = steps
            sample, rows = self._source[0], _num_rows(self._source[steps - 1])
            if not isinstance(sample, tuple):
                raise ConfigError(
                    f"{_CODE} gave a {type(sample).__name__}: a batch is a tuple, (x, y) or "
                    "(x, y, weight)"
                )
            # The usual mistake is a generator that goes on: from batch to batch, or at each end.
            firsts = [self._first_batches() for _ in range(2)]
        if not _is_equal(*firsts):
            raise ConfigError(
                f"{_CODE} gave other batches when it was made anew, so a resumed run would "
                "differ: draw from generators of (seed, epoch, number of the batch) alone"
            )
        if drop_last and rows < batch_size:
            steps, rows = steps - 1, batch_size
        if steps == 0:
            raise ConfigError(
                f"data.last_batch: drop leaves no batch of {batch_size}: use keep, or a smaller "
                "data.batch_size"
            )
        self.order = BatchOrder(batch_size, steps, (steps - 1) * batch_size + rows)
        self.sample = tf.nest.map_structure(lambda array: np.asarray(array)[:1], sample)
        self.specs = tf.nest.map_structure(spec_of, sample)

    def get(self, epoch: int, step: int) -> Any:
        """The global batch of a step: arrays [n, ...] in the source's structure."""
        if self._last is None or self._last[0] != (epoch, step):
            try:
                with user_code(_CODE):
                    self._last = (epoch, step), self._at(epoch)[step]
                self._check(self._last[1], step, len(self.order.step_ids(epoch, step)))
            except Exception as error:
                # tf.data would keep only the text of this error: see `BatchPipeline.explain`.
                self.failure = error
                raise
        return self._last[1]

    def drop(self) -> None:
        """Make the next batch that is asked for anew, whatever its number."""
        self._last = None

    def _first_batches(self) -> tuple[Any, Any]:
        """Those of the first two epochs, of a new source."""
        self._start()
        return self._at(0)[0], self._at(1)[0]

    def _start(self) -> Any:
        self._source, self._epoch = self._make(), 0
        self._source.on_epoch_begin()
        return self._source

    def _at(self, epoch: int) -> Any:
        """The source in an epoch: one that is over is told so, one that is past is begun anew."""
        if epoch < self._epoch:
            self._start()
        while self._epoch < epoch:
            self._source.on_epoch_end()
            self._source.on_epoch_begin()
            self._epoch += 1
            if len(self._source) != self._length:
                raise ConfigError(
                    f"{_CODE} has {len(self._source)} batches in epoch {self._epoch + 1}, and had "
                    f"{self._length}: all epochs have as many"
                )
        return self._source

    def _check(self, batch: Any, step: int, rows: int) -> None:
        try:
            tf.nest.assert_same_structure(batch, self.specs)
        except (TypeError, ValueError) as error:
            raise ConfigError(f"{_CODE} gave another structure as batch {step}") from error
        if _num_rows(batch) != rows:
            raise ConfigError(
                f"{_CODE} gave {_num_rows(batch)} records as batch {step}, and not {rows}: all "
                f"have data.batch_size ({self.order.batch_size}) of them, and an epoch's last "
                "always as many as in the first epoch"
            )


class BatchSource(Protocol):
    """Who makes global batches: `Batches`, or an object of a user's script.

    specs: of a batch's arrays [n, ...], in their structure. failure: what `get` raised.
    is_in_order: whether what is read is gone for the next who reads.
    """

    specs: Any
    is_in_order: bool
    failure: Exception | None

    @property
    def order(self) -> Order:
        """Which rows each step has."""
        ...

    def get(self, epoch: int, step: int) -> Any:
        """The global batch of a step; asked for again, the same one, until `drop`."""
        ...

    def drop(self) -> None:
        """Let the next batch be a new one: a pass of one step asks for the same step again."""
        ...


@dataclass(frozen=True)
class BatchPipeline:
    """A source's batches, for the replicas of one worker; used as `Pipeline` is."""

    batches: BatchSource
    place: Place
    threads: int
    micro_batches: int = 1
    fetching: Fetching = field(default_factory=Fetching, compare=False)

    @property
    def order(self) -> Order:
        """Which rows each step has."""
        return self.batches.order

    def dataset(self, start_step: int = 0, *, num_passes: int | None = None) -> tf.data.Dataset:
        """(examples, shares) for each replica and step from global step `start_step` on."""
        replicas, steps = self.place.replicas, self.order.steps_per_epoch
        last = np.iinfo(np.int64).max if num_passes is None else num_passes * steps * replicas
        numbers = tf.data.Dataset.range(start_step * replicas, last)
        elements = numbers.map(self._element, num_parallel_calls=1, deterministic=True)
        return elements.prefetch(2 * replicas).with_options(options_of(self.threads))

    def explain(self, error: Exception) -> Exception:
        """What the source raised, of which TensorFlow keeps only the text, or the same error."""
        failure = self.batches.failure
        return error if failure is None or not isinstance(error, tf.errors.OpError) else failure

    @tf.autograph.experimental.do_not_convert
    def _element(self, number: Any) -> Any:
        specs = self.batches.specs
        flat = tf.nest.flatten(specs)
        types = [tf.float32, *(spec.dtype for spec in flat)]
        # stateful=False: a stateful one runs without any overlap with training.
        shares, *found = tf.numpy_function(self._take, [number], types, stateful=False)
        shares.set_shape([self.micro_batches, 3])
        for tensor, spec in zip(found, flat, strict=True):
            tensor.set_shape(spec.shape)
        return tf.nest.pack_sequence_as(specs, found), shares

    def _take(self, number: Any) -> list[Any]:
        step, replica = divmod(int(number), self.place.replicas)
        if replica == 0:
            self.batches.drop()
        epoch, step = divmod(step, self.order.steps_per_epoch)
        rows, shares = shares_of(self.order, self.place, self.micro_batches, epoch, step)[replica]
        with self.fetching.going_on():
            batch = self.batches.get(epoch, step)
        pairs = zip(tf.nest.flatten(batch), tf.nest.flatten(self.batches.specs), strict=True)
        own = [np.asarray(array, spec.dtype.as_numpy_dtype)[rows] for array, spec in pairs]
        return [np.asarray(shares, np.float32), *own]


def _num_rows(batch: Any) -> int:
    return len(tf.nest.flatten(batch)[0])


def spec_of(array: Any) -> tf.TensorSpec:
    array = np.asarray(array)
    # As Keras' fit takes numpy's usual floats.
    dtype = tf.float32 if array.dtype == np.float64 else tf.as_dtype(array.dtype)
    return tf.TensorSpec([None, *array.shape[1:]], dtype)


def _is_equal(one: Any, other: Any) -> bool:
    pairs = zip(tf.nest.flatten(one), tf.nest.flatten(other), strict=True)
    return all(
        np.array_equal(a, b, equal_nan=np.issubdtype(np.asarray(a).dtype, np.inexact))
        for a, b in pairs
    )
