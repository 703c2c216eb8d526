"""From the order of records to batches on replicas: a tf.data pipeline indexed by step.

A pipeline starts at any global step at the cost of one chunk, holds no state that a
checkpoint would need, and yields one element a replica and step: (examples, shares).
`shares` is float32 [M, 3], a row for each of the M micro-batches whose examples follow each other,
(1, 1, records) in a full step. Its first number is the weight that makes the mean over replicas
and micro-batches the mean over records, also in an epoch's smaller last step (see
`trainer.models.replicas`). With fewer records than replicas, some replicas get copies of other
replicas' records (see `trainer.data.order.spread`): their second number is 0, and what they
measure is not counted. The third is the number of records.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, lru_cache, partial
from itertools import chain
from typing import Any

import numpy as np
import tensorflow as tf

from trainer.data.fetching import Fetching
from trainer.data.order import Ids, Order, Part, divide, micro_batches
from trainer.data.source import MemorySource, RecordSource, traced
from trainer.user_code import user_code

# Python is entered once a chunk of steps, not once a step: it holds the interpreter's lock. What
# a start costs and what waits in memory grow with the chunk, so one of records is shorter.
_CHUNK_STEPS_IN_MEMORY = 32
_CHUNK_STEPS = 8
_PADDING = -1
# Nothing of ours needs AutoGraph, which takes as long as tracing; users' functions may.
_as_is = tf.autograph.experimental.do_not_convert


@dataclass(frozen=True)
class Place:
    """Which share of every global step is read here."""

    worker: int = 0
    num_workers: int = 1
    replicas: int = 1

    @property
    def is_chief(self) -> bool:
        """Whether this worker writes what one of them has to write."""
        return self.worker == 0

    @property
    def num_replicas(self) -> int:
        """Of all workers."""
        return self.num_workers * self.replicas


@dataclass(frozen=True)
class Pipeline:
    """Batches of one slice in one order, for the replicas of one worker."""

    source: RecordSource | MemorySource
    order: Order
    place: Place
    seed: int
    threads: int
    micro_batches: int = 1
    fetching: Fetching = field(default_factory=Fetching, compare=False)

    def dataset(self, start_step: int = 0, *, num_passes: int | None = None) -> tf.data.Dataset:
        """(examples, shares) for each replica and step from global step `start_step` on.

        Endless, or up to the end of pass `num_passes`. Examples are batched along axis 0;
        their number differs only in a pass's last step, and is static where it never does.
        """
        examples = self._examples(self.chunks(start_step, num_passes=num_passes))
        return examples.prefetch(2 * self.place.replicas).with_options(options_of(self.threads))

    def chunks(self, start_step: int = 0, *, num_passes: int | None = None) -> tf.data.Dataset:
        """(ids, shares, epoch) of some steps at once, with their payloads unless in memory.

        Of E elements (steps x replicas) of R rows: int64 [E, R], float32 [E, M, 3], int32 [E] and
        string [E, R]. Rows that are not there hold id -1 and, so that decoding never sees an
        empty record, another row's payload.
        """
        steps = self.order.steps_per_epoch
        per_epoch = -(-steps // self._chunk_steps)
        epoch, step = divmod(start_step, steps)
        first = epoch * per_epoch + step // self._chunk_steps
        last = np.iinfo(np.int64).max if num_passes is None else num_passes * per_epoch
        plan = self._plan(range(first, last), start_step)
        chunks = tf.data.Dataset.range(first, last)
        return chunks.map(plan, num_parallel_calls=1, deterministic=True)

    def explain(self, error: Exception) -> Exception:
        """The error of the data behind one that TensorFlow raised, or the same error."""
        return self.source.explain(error) if isinstance(error, tf.errors.OpError) else error

    @cached_property
    def _rows(self) -> int:
        """Records of one replica in a step, at most."""
        order, replicas = self.order, self.place.num_replicas
        parts, step = self.micro_batches, order.steps_per_epoch - 1
        last = _replica_parts(order, self.place, parts, 0, step, range(replicas))
        rows = [sum(len(part.ids) for part in parts) for parts in last]
        return max(-(-order.batch_size // replicas), *rows, 1)

    @property
    def _is_always_full(self) -> bool:
        """Whether each replica has `_rows` records in every step."""
        order = self.order
        is_last_full = order.num_records == order.steps_per_epoch * order.batch_size
        return (
            is_last_full and order.batch_size % (self.place.num_replicas * self.micro_batches) == 0
        )

    @property
    def _chunk_steps(self) -> int:
        return _CHUNK_STEPS_IN_MEMORY if isinstance(self.source, MemorySource) else _CHUNK_STEPS

    def _plan(self, numbers: range, start_step: int) -> Callable[[Any], Any]:
        """A function from the number of a chunk to what it holds; see `chunks`."""
        source = self.source if isinstance(self.source, RecordSource) else None
        records_ahead = 0 if source is None else source.reader.num_ahead
        num_ahead = -(-records_ahead // (self._chunk_steps * self.order.batch_size))
        # Between the look ahead at a chunk and its use, as many others are used as looked at.
        chunk_of = lru_cache(maxsize=2 * num_ahead + 2)(partial(self._chunk, start_step=start_step))

        @lru_cache(maxsize=num_ahead + 1)
        def blocks_of(source: RecordSource, number: int) -> list[int]:
            ids, _, _ = chunk_of(number)
            return source.reader.blocks_of(ids[ids != _PADDING])

        def expect(source: RecordSource, number: int) -> None:
            done = number - numbers.start
            # Farther with each chunk: the first does not wait for the plan of a whole window.
            count = min(num_ahead, 4 * done + 4)
            blocks = (blocks_of(source, ahead) for ahead in numbers[done : done + 1 + count])
            source.reader.expect(chain.from_iterable(blocks), drop_others=count == num_ahead)

        def plan(number: Any) -> Any:
            ids, share, epochs = chunk_of(int(number))
            if source is None:
                return ids, share, epochs
            expect(source, int(number))
            filled = np.where(ids == _PADDING, ids[:, :1], ids)
            with self.fetching.going_on():
                return ids, share, epochs, source.read(filled)

        types = [tf.int64, tf.float32, tf.int32, *([] if source is None else [tf.string])]

        @_as_is
        def mapped(chunk: Any) -> Any:
            # stateful=False: a stateful one runs alone under enable_op_determinism, without
            # any overlap with training.
            ids, share, epochs, *payloads = tf.numpy_function(plan, [chunk], types, stateful=False)
            for tensor in (ids, *payloads):
                tensor.set_shape([None, self._rows])
            share.set_shape([None, self.micro_batches, 3])
            epochs.set_shape([None])
            return ids, share, epochs, *payloads

        return mapped

    def _chunk(self, chunk: int, start_step: int) -> tuple[Any, Any, Any]:
        steps = self.order.steps_per_epoch
        epoch, number = divmod(chunk, -(-steps // self._chunk_steps))
        first = max(number * self._chunk_steps, start_step - epoch * steps)
        rows, shares = [], []
        for step in range(first, min((number + 1) * self._chunk_steps, steps)):
            for ids, share in shares_of(self.order, self.place, self.micro_batches, epoch, step):
                rows.append(np.pad(ids, (0, self._rows - len(ids)), constant_values=_PADDING))
                shares.append(share)
        return np.stack(rows), np.asarray(shares, np.float32), np.full(len(rows), epoch, np.int32)

    def _examples(self, chunks: tf.data.Dataset) -> tf.data.Dataset:
        if isinstance(self.source, MemorySource) and self.source.augment is None:
            elements = chunks.unbatch()
            gather = self.source.gather

            @_as_is
            def take(ids: Any, share: Any, _epoch: Any) -> Any:
                return gather(self._strip(ids, ids)), share

            return elements.map(take, num_parallel_calls=self.threads)
        return self._record_by_record(chunks)

    def _record_by_record(self, chunks: tf.data.Dataset) -> tf.data.Dataset:
        source, augment, rows = self.source, self.source.augment, self._rows

        @_as_is
        def flatten(ids: Any, share: Any, epochs: Any, *payloads: Any) -> Any:
            repeated = (tf.repeat(share, rows, axis=0), tf.repeat(epochs, rows))
            return (tf.reshape(ids, [-1]), *repeated, *(tf.reshape(p, [-1]) for p in payloads))

        def example(record: Any, share: Any, epoch: Any, *payload: Any) -> Any:
            present = tf.maximum(record, source.first)
            decoded = (
                source.gather(present)
                if isinstance(source, MemorySource)
                else source.decode(payload[0])
            )
            if augment is not None:
                decoded = augment(decoded, self._record_seed(epoch, record))
            return record, share, decoded

        @_as_is
        def strip(ids: Any, share: Any, examples: Any) -> Any:
            return tf.nest.map_structure(lambda t: self._strip(t, ids), examples), share[0]

        records = chunks.map(flatten).unbatch()
        name = "decode" if augment is None else "augment"
        name = f"the data function {name}"
        with user_code(name):
            example = traced(example, *records.element_spec, name=name)
        decoded = records.map(example, num_parallel_calls=self.threads, deterministic=True)
        return decoded.batch(rows, drop_remainder=True).map(strip)

    def _record_seed(self, epoch: Any, record: Any) -> Any:
        """int32 [2], the same for a record of an epoch at any world size and after a resume."""
        mixed = tf.random.experimental.stateless_fold_in(
            tf.stack([tf.constant(self.seed, tf.int32), epoch]), tf.cast(record, tf.int32)
        )
        return tf.cast(mixed, tf.int32)

    def _strip(self, tensor: Any, ids: Any) -> Any:
        """Without the rows that are only padding; as it is when there are none."""
        if self._is_always_full:
            return tensor
        present = ids >= 0
        return tf.cond(
            tf.reduce_all(present), lambda: tensor, lambda: tf.boolean_mask(tensor, present)
        )


def options_of(threads: int) -> tf.data.Options:
    """In order, on so many threads of its own."""
    options = tf.data.Options()
    options.deterministic = True
    options.threading.private_threadpool_size = threads
    # Nothing here is left to tune, and the tuner's thread, asleep for up to a minute, now
    # and then misses its wake-up: deleting an iterator then waits for its next round.
    options.autotune.enabled = False
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    return options


def shares_of(
    order: Order, place: Place, parts: int, epoch: int, step: int
) -> list[tuple[Ids, list[tuple[float, float, int]]]]:
    """(ids, shares) of each replica of a worker, whose step is made in so many micro-batches."""
    first = place.worker * place.replicas
    own = range(first, first + place.replicas)
    return [
        (
            np.concatenate([part.ids for part in each]),
            [(part.weight, float(part.is_counted), len(part.ids)) for part in each],
        )
        for each in _replica_parts(order, place, parts, epoch, step, own)
    ]


def _replica_parts(
    order: Order, place: Place, parts: int, epoch: int, step: int, own: range
) -> list[tuple[Part, ...]]:
    """The micro-batches of each replica that is `own`, of those of all workers."""
    whole = micro_batches(order, epoch, step, parts=parts, num_workers=place.num_workers)
    return list(zip(*(divide(part, place.num_replicas, own) for part in whole), strict=True))
