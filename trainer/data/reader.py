"""Payloads of records by their number, read from storage a block at a time and verified.

A block is up to `block_records` consecutive records of one shard: the unit of I/O and of the
cache. Python is entered once a call and the checks run over whole blocks, because a Python call
a record would cost more than reading it. Nothing here needs TensorFlow.
"""

import itertools
import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainer.data.manifest import Manifest, Shard, SplitSlice
from trainer.data.tfrecord import Offsets, checksum, decode_index, split_records
from trainer.errors import DataError, ObjectNotFoundError
from trainer.storage.base import Storage

OnBad = Callable[[str, int, str], None]


@dataclass(frozen=True)
class _Block:
    """Consecutive records of a shard: `start` is the first's number in the shard.

    `bad` maps positions in `payloads` to what is wrong there.
    """

    shard: int
    start: int
    offsets: list[int]
    payloads: list[bytes]
    bad: dict[int, str]


class RecordReader:
    """Random access to the records of one split; safe to share between threads.

    Args:
        split: a split's name, or a slice of it. Records keep their numbers in the whole split;
            a slice only forbids the others.
        max_bad_records: so many different damaged records are replaced, each by the next
            readable record of its shard (of the slice); one more ends in `DataError`.
        cache_blocks: blocks kept in memory, the least recently used is dropped first.
        on_bad: told the file, byte offset and reason of every record that is replaced, once.
    """

    def __init__(
        self,
        storage: Storage,
        manifest: Manifest,
        split: str | SplitSlice,
        *,
        block_records: int = 500,
        max_bad_records: int = 0,
        cache_blocks: int = 64,
        on_bad: OnBad | None = None,
    ) -> None:
        whole = manifest.split(split if isinstance(split, str) else split.name)
        if whole.num_records == 0:
            raise DataError(
                f"split '{whole.name}' of data set {manifest.name} has no records:"
                " choose another split or prepare the data set again"
            )
        if block_records < 1 or cache_blocks < 1 or max_bad_records < 0:
            raise ValueError(
                f"block_records {block_records} and cache_blocks {cache_blocks} must be at least"
                f" 1, max_bad_records {max_bad_records} at least 0"
            )
        self.num_records = whole.num_records
        self._low, self._high = (
            (0, whole.num_records) if isinstance(split, str) else (split.start, split.stop)
        )
        self._storage = storage
        self._shards = whole.shards
        self._bases = np.cumsum([0, *(shard.num_records for shard in whole.shards)])
        self._block_records = block_records
        self._max_bad_records = max_bad_records
        self._cache_blocks = cache_blocks
        self._on_bad = on_bad
        self._lock = threading.Lock()
        self._blocks: OrderedDict[tuple[int, int], Future[_Block]] = OrderedDict()
        self._indexes: dict[int, Offsets] = {}
        self._replaced: set[tuple[int, int]] = set()

    def read(self, ids: NDArray[np.int64]) -> list[bytes]:
        """Payloads of the records `ids`, int64 [n], in that order.

        Raises:
            IndexError: a number outside of the split (or the slice).
            DataError: a record is damaged and no more may be replaced, a shard or its index is
                missing or is not the one that the manifest describes.
            StorageError: the storage refused.
        """
        ids = np.asarray(ids, np.int64)
        if ids.size == 0:
            return []
        if ids.min() < self._low or ids.max() >= self._high:
            raise IndexError(f"records {ids.min()} to {ids.max()} of [{self._low}, {self._high})")
        shards = np.searchsorted(self._bases, ids, side="right") - 1
        numbers, positions = np.divmod(ids - self._bases[shards], self._block_records)
        # Plain tuples and lists from here on: indexing arrays element by element is slow.
        keys = list(zip(shards.tolist(), numbers.tolist(), strict=True))
        blocks = {key: self._block(*key) for key in dict.fromkeys(keys)}
        at = positions.tolist()
        if any(block.bad for block in blocks.values()):
            return [self._payload(blocks[k], p) for k, p in zip(keys, at, strict=True)]
        payloads = {key: block.payloads for key, block in blocks.items()}
        return [payloads[k][p] for k, p in zip(keys, at, strict=True)]

    def locate(self, record: int) -> tuple[str, int]:
        """The file of a record and the record's number in it."""
        shard = int(np.searchsorted(self._bases, record, side="right")) - 1
        return self._shards[shard].file, record - int(self._bases[shard])

    def _block(self, shard: int, number: int) -> _Block:
        """The block from the cache, or loaded; threads that want the same one wait for it."""
        key = (shard, number)
        with self._lock:
            future = self._blocks.get(key)
            is_mine = future is None
            if future is None:
                future = self._blocks[key] = Future()
                while len(self._blocks) > self._cache_blocks:
                    self._blocks.popitem(last=False)
            self._blocks.move_to_end(key)
        if is_mine:
            try:
                future.set_result(self._load(shard, number))
            except BaseException as error:
                with self._lock:
                    if self._blocks.get(key) is future:
                        del self._blocks[key]
                future.set_exception(error)
        return future.result()

    def _load(self, shard: int, number: int) -> _Block:
        start = number * self._block_records
        offsets = self._index(shard)[start : start + self._block_records + 1]
        relative = offsets - offsets[0]
        payloads, bad = self._read_records(shard, int(offsets[0]), relative)
        if bad:
            # Read once more: damage on the way is not damage of the file.
            payloads, bad = self._read_records(shard, int(offsets[0]), relative)
        return _Block(shard, start, offsets.tolist(), payloads, bad)

    def _read_records(
        self, shard: int, at: int, relative: Offsets
    ) -> tuple[list[bytes], dict[int, str]]:
        file = self._shards[shard].file
        data = _read(self._storage, file, start=at, length=int(relative[-1]))
        return split_records(data, relative)

    def _index(self, shard: int) -> Offsets:
        found = self._indexes.get(shard)
        if found is None:
            found = self._indexes[shard] = read_index(self._storage, self._shards[shard])
        return found

    def _payload(self, block: _Block, position: int) -> bytes:
        if position not in block.bad:
            return block.payloads[position]
        self._count_bad(block, position)
        replacement = self._replacement(block, position)
        if replacement is None:
            raise DataError(
                f"{self._describe(block, position)}, and no other record of the file that could"
                " replace it is readable: run 'trainer data verify', prepare the data set again"
            )
        return replacement

    def _count_bad(self, block: _Block, position: int) -> None:
        key = (block.shard, block.start + position)
        with self._lock:
            if key in self._replaced:
                return
            if len(self._replaced) >= self._max_bad_records:
                raise DataError(
                    f"{self._describe(block, position)}; {len(self._replaced)} damaged records"
                    f" were skipped before and data.max_bad_records is {self._max_bad_records}:"
                    " run 'trainer data verify', prepare the data set again or raise the limit"
                )
            self._replaced.add(key)
        if self._on_bad is not None:
            file = self._shards[block.shard].file
            self._on_bad(file, block.offsets[position], block.bad[position])

    def _replacement(self, block: _Block, position: int) -> bytes | None:
        """The next readable record after this one, around the end of the shard if need be."""
        base = int(self._bases[block.shard])
        low = max(self._low - base, 0)
        high = min(self._high - base, self._shards[block.shard].num_records)
        own = block.start + position
        for candidate in itertools.chain(range(own + 1, high), range(low, own)):
            number, at = divmod(candidate, self._block_records)
            there = self._block(block.shard, number)
            if at not in there.bad:
                return there.payloads[at]
        return None

    def _describe(self, block: _Block, position: int) -> str:
        return (
            f"record {block.start + position} of {self._shards[block.shard].file} in"
            f" {self._storage.url}, at byte {block.offsets[position]}: {block.bad[position]}"
        )


def read_index(storage: Storage, shard: Shard) -> Offsets:
    """The verified byte offsets of a shard, int64 [num_records + 1].

    Raises:
        DataError: the index is missing, or not the one that the manifest describes.
    """
    data = _read(storage, shard.index_file, start=0, length=8 * (shard.num_records + 1) + 1)
    offsets = None
    if checksum(data) == shard.index_crc32c:
        offsets = decode_index(data, num_records=shard.num_records, size_bytes=shard.size_bytes)
    if offsets is None:
        raise DataError(
            f"{shard.index_file} in {storage.url} is damaged or of another version of the data"
            " set: prepare the data set again"
        )
    return offsets


def _read(storage: Storage, file: str, *, start: int, length: int) -> bytes:
    try:
        return storage.read(file, start=start, length=length)
    except ObjectNotFoundError:
        raise DataError(
            f"{file} is missing in {storage.url}: run 'trainer data prepare' again"
        ) from None
