"""Which records each replica reads, and in which order.

Pure functions of (seed, epoch, step): every worker computes the same plan from the same
manifest, so nothing is coordinated and nothing has to be saved to resume. Intervals are
half-open; records are numbered from 0 within their split. No I/O here.

An epoch: blocks of consecutive records are permuted and laid end to end; the line is cut into
`num_streams` spans that differ by at most one record; inside a span, records are shuffled
within windows of `shuffle_blocks` blocks. A global step takes batch_size / num_streams records
of every span. Spans, not workers, decide what a step holds, so the global batches are the
same at every world size.
"""

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import accumulate
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from trainer.errors import ConfigError

Ids = NDArray[np.int64]

# Purposes keep the random streams of one (seed, epoch) apart.
_BLOCKS, _WINDOW = 1, 2


def permutation(size: int, *key: int) -> Ids:
    """A permutation of range(size) that depends on `key` alone, on every platform.

    numpy keeps the raw output of a bit generator stable between versions, but not what
    `Generator.permutation` makes of it (NEP 19), so the raw numbers are sorted here.
    """
    raw = np.random.Philox(np.random.SeedSequence(key)).random_raw(size)
    return np.argsort(raw, kind="stable").astype(np.int64)


def split_evenly(ids: Ids, parts: int, part: int) -> Ids:
    """The `part`-th of `parts` consecutive pieces whose sizes differ by at most one."""
    return ids[len(ids) * part // parts : len(ids) * (part + 1) // parts]


class Order(Protocol):
    """The records of every global step."""

    @property
    def num_records(self) -> int:
        """Records of one epoch."""
        ...

    @property
    def steps_per_epoch(self) -> int:
        """Global steps of one epoch; only the last may be smaller than a batch."""
        ...

    @property
    def batch_size(self) -> int:
        """Records of a full global step."""
        ...

    def step_ids(self, epoch: int, step: int, num_workers: int = 1) -> Ids:
        """Records of one global step, those of worker 0 first."""
        ...


def records_of_step(order: Order, step: int) -> int:
    """How many records an epoch's step has; only the last may have fewer than a batch."""
    return min(order.batch_size, order.num_records - step * order.batch_size)


@dataclass(frozen=True)
class Part:
    """Some records of a step, and what they weigh where parts are averaged.

    `weight` makes the mean over all parts the mean over the step's records. A part that is not
    counted holds copies of other parts' records, because there are fewer records than parts.
    """

    ids: Ids
    weight: float = 1.0
    is_counted: bool = True


def micro_batches(
    order: Order, epoch: int, step: int, *, parts: int = 1, num_workers: int = 1
) -> list[Part]:
    """A global step in `parts`, which hold the same records at every number of workers.

    A full step takes equally many of every stream, so that workers read their own streams alone.
    """
    ids = order.step_ids(epoch, step, num_workers)
    if parts == 1:
        return [Part(ids)]
    if len(ids) < order.batch_size:
        ids = order.step_ids(epoch, step)
    return _weighed(ids, parts, range(parts), lambda part: ids[part::parts])


def divide(part: Part, replicas: int, own: range) -> list[Part]:
    """A step, or a micro-batch of one, for those of so many replicas that are `own`.

    Shares of a full step are equal; those of a smaller last step differ by at most one.
    """
    shares = _weighed(part.ids, replicas, own, lambda i: split_evenly(part.ids, replicas, i))
    return [
        Part(share.ids, part.weight * share.weight, part.is_counted and share.is_counted)
        for share in shares
    ]


def _weighed(ids: Ids, count: int, own: range, cut: Callable[[int], Ids]) -> list[Part]:
    """Those of `count` parts that are `own`: as `cut` does it, or else spread."""
    if len(ids) >= count:
        parts = [cut(i) for i in own]
        return [Part(part, count * len(part) / len(ids)) for part in parts]
    spreaded = spread(ids, count)
    size = sum(map(len, spreaded))
    return [Part(spreaded[i], count * len(spreaded[i]) / size, i < len(ids)) for i in own]


def spread(ids: Ids, parts: int) -> list[Ids]:
    """Parts of a step of fewer records than parts: none empty, every record equally often.

    Means over all parts are then means over the records. The first len(ids) parts hold each
    record once; the others hold further copies, which must not be counted.
    """
    copies = -(-parts // len(ids)) - 1
    rest, others = np.tile(ids, copies), parts - len(ids)
    return [*np.split(ids, len(ids)), *(split_evenly(rest, others, i) for i in range(others))]


# eq=False: the caches below hash the order itself, and a million blocks are slow to hash.
@dataclass(frozen=True, eq=False)
class TrainOrder:
    """The shuffled order of training.

    `blocks` are (first record, number of records), as `trainer.data.manifest.blocks` gives.
    """

    blocks: tuple[tuple[int, int], ...]
    batch_size: int
    num_streams: int
    shuffle_blocks: int
    seed: int
    drop_last: bool = False

    def __post_init__(self) -> None:
        # Every step visits all streams: a cache that holds fewer would never hit.
        for name in ("_pieces", "_window_ends", "_window_ids"):
            cached = lru_cache(maxsize=4 * self.num_streams)(getattr(self, name))
            object.__setattr__(self, name, cached)
        if self._available < self.num_streams:
            raise ConfigError(
                f"{self._available} records cannot feed {self.num_streams} streams: "
                f"set data.streams to {self._available or 1} or less"
            )
        if self.drop_last and self.steps_per_epoch == 0:
            raise ConfigError(
                f"data.last_batch: drop leaves no step of {self.batch_size} among "
                f"{self._available} records: use keep, or a smaller data.batch_size"
            )

    @cached_property
    def num_records(self) -> int:
        """Records of one epoch, without those that `drop_last` leaves out."""
        return self.steps_per_epoch * self.batch_size if self.drop_last else self._available

    @cached_property
    def _available(self) -> int:
        return sum(count for _, count in self.blocks)

    @property
    def stream_batch(self) -> int:
        """Records that a full step takes of every stream."""
        return self.batch_size // self.num_streams

    @cached_property
    def steps_per_epoch(self) -> int:
        """Global steps of one epoch."""
        if self.drop_last:
            return self._available // self.num_streams // self.stream_batch
        longest = -(-self._available // self.num_streams)
        return -(-longest // self.stream_batch)

    def step_ids(self, epoch: int, step: int, num_workers: int = 1) -> Ids:
        """Records of one global step, those of worker 0 first (streams 0, W, 2W, …)."""
        start = step * self.stream_batch
        streams = [s for w in range(num_workers) for s in range(w, self.num_streams, num_workers)]
        parts = [self.stream_ids(epoch, s, start, start + self.stream_batch) for s in streams]
        return np.concatenate(parts)

    def stream_ids(self, epoch: int, stream: int, start: int, stop: int) -> Ids:
        """Records [start, stop) of one stream; fewer at the stream's end."""
        ends = self._window_ends(epoch, stream)
        parts = [np.empty(0, np.int64)]
        for window in range(bisect_right(ends, start), len(ends)):
            first = ends[window - 1] if window else 0
            if first >= stop:
                break
            shuffled = self._window_ids(epoch, stream, window)
            parts.append(shuffled[max(start - first, 0) : stop - first])
        return np.concatenate(parts)

    @lru_cache(maxsize=4)  # noqa: B019 - orders live as long as the process
    def _layout(self, epoch: int) -> tuple[Ids, Ids]:
        """(block numbers in this epoch's order, position of each block's first record)."""
        chosen = permutation(len(self.blocks), self.seed, epoch, _BLOCKS)
        counts = np.asarray([count for _, count in self.blocks], np.int64)[chosen]
        return chosen, np.concatenate([[0], np.cumsum(counts)])

    def _pieces(self, epoch: int, stream: int) -> tuple[tuple[int, int], ...]:
        """A span's (first record, number of records), one a block; the ends may be split."""
        chosen, starts = self._layout(epoch)
        low = self._available * stream // self.num_streams
        high = self._available * (stream + 1) // self.num_streams
        first = int(np.searchsorted(starts, low, side="right")) - 1
        pieces = []
        for place in range(first, len(chosen)):
            begin, end = max(low, int(starts[place])), min(high, int(starts[place + 1]))
            if begin >= end:
                break
            block_start = self.blocks[chosen[place]][0]
            pieces.append((block_start + begin - int(starts[place]), end - begin))
        return tuple(pieces)

    def _window_ends(self, epoch: int, stream: int) -> tuple[int, ...]:
        """Position in the span after each window, a run of `shuffle_blocks` pieces."""
        counts = [count for _, count in self._pieces(epoch, stream)]
        last = range(self.shuffle_blocks - 1, len(counts) + self.shuffle_blocks - 1)
        ends = list(accumulate(counts))
        return tuple(ends[min(i, len(ends) - 1)] for i in last[:: self.shuffle_blocks])

    def _window_ids(self, epoch: int, stream: int, window: int) -> Ids:
        first = window * self.shuffle_blocks
        pieces = self._pieces(epoch, stream)[first : first + self.shuffle_blocks]
        ids = np.concatenate([np.arange(s, s + n, dtype=np.int64) for s, n in pieces])
        return ids[permutation(len(ids), self.seed, epoch, _WINDOW, stream, window)]


@dataclass(frozen=True)
class EvalOrder:
    """Every record once, in the order of the files: validation and test passes."""

    first: int
    num_records: int
    batch_size: int

    @property
    def steps_per_epoch(self) -> int:
        """Steps of one pass; the last keeps its true size."""
        return -(-self.num_records // self.batch_size)

    def step_ids(self, epoch: int, step: int, num_workers: int = 1) -> Ids:  # noqa: ARG002
        """Records of one step of the pass, the same in every epoch."""
        start = step * self.batch_size
        stop = min(start + self.batch_size, self.num_records)
        return np.arange(self.first + start, self.first + stop, dtype=np.int64)
