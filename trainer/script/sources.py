"""Batches that a script's own object makes: by number (`PyDataset`), or one after the other.

Used as `trainer.data.batches.Batches` is: `get` gives the global batch of a step, of which each
worker keeps its share.
"""

import math
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import tensorflow as tf

from trainer.data.batches import spec_of
from trainer.errors import ConfigError, DataError
from trainer.script.arrays import as_array, as_arrays, num_rows, told
from trainer.script.orders import RowsOrder, shuffled_batches
from trainer.user_code import user_code

_WAYS_OUT = "give fewer steps_per_epoch, or data that repeats"


class MadeBatches:
    """What both kinds have in common; `fetch` makes a batch.

    weigh: adds the weights of classes to a batch. first_epoch: the number that the call gives its
    first epoch; the source's first pass is that one.
    """

    first_epoch = 0
    is_in_order = False

    def __init__(self, code: str, weigh: Callable[[Any], Any]) -> None:
        self.code = code
        self._weigh = weigh
        self._last: tuple[tuple[int, int], Any] | None = None
        # Batches are fetched ahead, on a thread of tf.data, also when training has ended.
        self._lock = threading.Lock()
        self.failure: Exception | None = None
        self.specs: Any = None

    def describe(self, first: Any, shapes: Sequence[tf.TensorShape] = ()) -> None:
        """Take over the shapes and types of a first batch: all others have the same.

        shapes: of its arrays, as far as they are known; a dimension that is not may vary.
        """
        batch = self._as_arrays(first)
        self.sample = tf.nest.map_structure(lambda array: array[:1], batch)
        specs = [spec_of(array) for array in tf.nest.flatten(batch)]
        for number, shape in enumerate(shapes):
            # Some know not even how many sizes they have.
            if shape is not None and shape.rank:
                sizes = [
                    None if size is None else own
                    for size, own in zip(shape[1:], specs[number].shape[1:], strict=True)
                ]
                specs[number] = tf.TensorSpec([None, *sizes], specs[number].dtype)
        self.specs = tf.nest.pack_sequence_as(batch, specs)

    def get(self, epoch: int, step: int) -> Any:
        """The global batch of a step: arrays [n, ...] in the source's structure."""
        with self._lock:
            if self._last is None or self._last[0] != (epoch, step):
                try:
                    with user_code(self.code):
                        made = self.fetch(epoch - self.first_epoch, step)
                    self._last = (epoch, step), self._as_arrays(made)
                except Exception as error:
                    # tf.data would keep only the text of this error: see `BatchPipeline.explain`.
                    # The first one, since a generator that has raised ends after that.
                    self.failure = self.failure or error
                    raise
            return self._last[1]

    def drop(self) -> None:
        """Make the next batch that is asked for anew, whatever its number."""
        with self._lock:
            self._last = None

    def passed(self, passes: int, *, again: bool = False, reads: bool = False) -> None:
        """Let the source be as in a life that has made so many passes, and has begun the next.

        A script's later calls may be given the same object, of which other lives saw more.
        again: each was asked for as the first one, as validation is. reads: whether to read those
        passes where nothing less does it, because the call is not over.
        """
        with self._lock, user_code(self.code):
            self.leave(passes, again=again, reads=reads)

    def num_rows(self, epoch: int, step: int) -> int:
        """Records of that batch."""
        return num_rows(self.get(epoch, step))

    def fetch(self, epoch: int, step: int) -> Any:
        """The batch as the script's object gives it."""
        raise NotImplementedError

    def leave(self, passes: int, *, again: bool, reads: bool) -> None:
        """Begin the pass of that number, after those before it."""
        raise NotImplementedError

    def _as_arrays(self, batch: Any) -> Any:
        weighed = self._weigh(tuple(batch) if isinstance(batch, list) else batch)
        arrays = (
            tuple(map(as_arrays, weighed)) if isinstance(weighed, tuple) else as_arrays(weighed)
        )
        counts = {len(array) if array.ndim else 0 for array in tf.nest.flatten(arrays)}
        if len(counts) != 1 or 0 in counts:
            raise DataError(
                f"{self.code} gave a batch whose arrays have {told(counts)} records: all of a batch"
                " have as many, and single records are no batch (tf.data: batch them)"
            )
        if self.specs is not None:
            try:
                tf.nest.assert_same_structure(arrays, self.specs)
            except (TypeError, ValueError) as error:
                raise DataError(f"{self.code} gave batches of different structures") from error
        return arrays


class IndexedBatches(MadeBatches):
    """`source[i]`, in an order that is shuffled anew in each pass; `on_epoch_end` ends a pass.

    key: what the order is drawn from; None for none. steps: an epoch's, where it is no pass.
    """

    def __init__(
        self, source: Any, code: str, weigh: Callable[[Any], Any], *,
        key: tuple[int, ...] | None, steps: int | None,
    ) -> None:  # fmt: skip
        super().__init__(code, weigh)
        self._source, self._key, self._pass = source, key, 0
        with user_code(code):
            # Of a PyDataset without an end, it is None.
            self._length = source.num_batches if hasattr(source, "num_batches") else len(source)
            self._begin()
            self.describe(source[0])
        if self._length is None and steps is None:
            raise ConfigError(f"{code} has no length: give steps_per_epoch")
        if self._length is not None and self._length < 1:
            raise ConfigError(f"{code} has no batch: its length is {self._length}")
        batch_size = num_rows(tf.nest.map_structure(as_array, source[0]))
        self.order = RowsOrder(self, batch_size, steps or self._length or 0)

    def fetch(self, epoch: int, step: int) -> Any:
        """The batch of a step; passes that are over are told so."""
        number = epoch * self.order.steps_per_epoch + step
        passed, number = divmod(number, self._length) if self._length else (0, number)
        self._leave(passed)
        if self._key is not None and self._length:
            number = int(shuffled_batches(self._length, *self._key, passed)[number])
        return self._source[number]

    def leave(self, passes: int, *, again: bool, reads: bool) -> None:  # noqa: ARG002
        """So many epochs, each told to the source."""
        if self._length:
            self._leave(passes * self.order.steps_per_epoch // self._length)

    def _leave(self, passes: int) -> None:
        while self._pass < passes:
            if hasattr(self._source, "on_epoch_end"):
                self._source.on_epoch_end()
            self._pass += 1
            self._begin()

    def _begin(self) -> None:
        if hasattr(self._source, "on_epoch_begin"):
            self._source.on_epoch_begin()


class StreamedBatches(MadeBatches):
    """What an iterator gives, one batch after the other; `begin` makes the iterator of a pass.

    Where a run goes on in a later epoch, the passes before it are begun and left, which is what
    moves a seeded shuffle of tf.data on; with `steps`, an epoch's, what they gave is dropped.
    whole: so many passes must be read to their ends all the same, for what they leave behind;
    all of an object that is its own iterator.
    """

    is_in_order = True

    def __init__(
        self, begin: Callable[[], Iterator[Any]], code: str, weigh: Callable[[Any], Any], *,
        length: int | None, steps: int | None, whole: float = 0,
        shapes: Sequence[tf.TensorShape] = (),
    ) -> None:  # fmt: skip
        super().__init__(code, weigh)
        self._begin, self._steps, self._whole, self._begun = begin, steps, whole, 1
        with user_code(code):
            self._iterator = begin()
            self._first = next(self._iterator, None)
        if self._first is None:
            raise ConfigError(f"{code} has no batch")
        self.describe(self._first, shapes)
        batch_size = num_rows(tf.nest.map_structure(as_array, self._first))
        self.order = RowsOrder(self, batch_size, steps or length or 0)
        # (pass, number) of the batch that comes next.
        self._next = (0, 0)

    def fetch(self, epoch: int, step: int) -> Any:
        """The batch of a step, after those before it."""
        wanted = (0, epoch * self._steps + step) if self._steps else (epoch, step)
        if wanted < self._next:
            # A validation pass is made again and again.
            if self._next[1]:
                self._begin_pass()
            self._next = (wanted[0], 0)
        while self._next[0] < wanted[0]:
            self._begin_pass()
        while True:
            batch = self._first if self._first is not None else next(self._iterator, None)
            self._first = None
            if batch is None and self._steps and self._next[1]:
                # An epoch is no pass: the data begins anew where it ends.
                self._iterator = self._begin()
                batch = next(self._iterator, None)
            if batch is None:
                raise DataError(f"{self.code} ran out after batch {self._next[1]}: {_WAYS_OUT}")
            at, self._next = self._next, (self._next[0], self._next[1] + 1)
            if at == wanted:
                return batch

    def leave(self, passes: int, *, again: bool, reads: bool) -> None:
        """Begin the pass of that number; nothing where that would be reading in vain."""
        if not again and (self._steps or self._whole == math.inf):
            return  # `fetch` reads what comes before the step that it is asked for
        if again and not reads and self._whole == math.inf:
            return
        while self._begun <= passes:
            if self._steps and reads and self._whole and not self._next[1]:
                for step in range(self._steps):
                    self.fetch(0, step)
            self._begin_pass()

    def _begin_pass(self) -> None:
        if not self._steps and self._begun <= self._whole:
            for _ in self._iterator:
                pass
        self._next = (self._next[0] + 1, 0)
        self._iterator, self._first = self._begin(), None
        self._begun += 1


def elements(dataset: tf.data.Dataset) -> Callable[[], Iterator[Any]]:
    """What begins a pass over the elements of a data set, as numpy arrays."""
    # What is read ahead may begin a `repeat` once more, or not, as chance has it.
    options = tf.data.Options()
    options.experimental_optimization.inject_prefetch = False
    dataset = dataset.with_options(options)

    def begin() -> Iterator[Any]:
        # Made at once: a seeded shuffle moves on with each iterator that is made.
        iterator = iter(dataset)
        return (tf.nest.map_structure(_numpy, element) for element in iterator)

    return begin


def _numpy(tensor: Any) -> Any:
    if not isinstance(tensor, tf.Tensor):
        raise ConfigError(f"a {type(tensor).__name__} cannot be shared out: make it a dense tensor")
    return tensor.numpy()


def telling(begin: Callable[[], Iterator[Any]], on_read: Callable[[], None]) -> Callable[[], Any]:
    """The same, and it calls `on_read` at each batch."""

    def begin_telling() -> Iterator[Any]:
        iterator = begin()  # now, and not with the first batch

        def each() -> Iterator[Any]:
            for batch in iterator:
                on_read()
                yield batch

        return each()

    return begin_telling
