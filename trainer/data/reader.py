"""Payloads of records by their number, read from storage a block at a time and verified.

A block is up to `block_records` consecutive records of one shard: the unit of I/O and of the
cache. Blocks are numbered over all shards of the split. Python is entered once a call and the
checks run over whole blocks, because a Python call a record would cost more than reading it.
Nothing here needs TensorFlow.
"""

import itertools
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainer.data.block_cache import BlockCache
from trainer.data.manifest import Manifest, Shard, SplitSlice
from trainer.data.pieces import Piece, Pieces
from trainer.data.tfrecord import (
    INDEX_ENTRY_BYTES,
    Index,
    Offsets,
    check_records,
    checksum,
    cut_records,
    decode_index,
)
from trainer.errors import DataError

Payloads = NDArray[np.object_]
OnBad = Callable[[str, int, str], None]


@dataclass(frozen=True)
class _Block:
    """Consecutive records of a shard: `start` is the first's number in the shard.

    `bad` maps positions in `payloads` to what is wrong there.
    """

    shard: int
    start: int
    offsets: Offsets
    payloads: Payloads
    bad: dict[int, str]


class RecordReader:
    """Random access to the records of one split; safe to share between threads.

    Args:
        split: a split's name, or a slice of it. Records keep their numbers in the whole split;
            a slice only forbids the others.
        max_bad_records: so many different damaged records are replaced, each by the next
            readable record of its shard (of the slice); one more ends in `DataError`.
        cache_blocks: blocks kept in memory, those of `expect` first, then the last used.
        num_loaders: threads that load what is expected; 0 where reading is as good as waiting.
        on_bad: told the file, byte offset and reason of every record that is replaced, once.
    """

    def __init__(
        self,
        pieces: Pieces,
        manifest: Manifest,
        split: str | SplitSlice,
        *,
        block_records: int = 500,
        max_bad_records: int = 0,
        cache_blocks: int = 64,
        num_loaders: int = 0,
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
        self._pieces = pieces
        self._shards = whole.shards
        counts = np.array([shard.num_records for shard in whole.shards])
        self._bases = np.cumsum([0, *counts])
        self._first_blocks = np.cumsum([0, *-(-counts // block_records)])
        self._block_records = block_records
        self._max_bad_records = max_bad_records
        self._on_bad = on_bad
        self._lock = threading.Lock()
        self._blocks = BlockCache(self._load, size=cache_blocks, num_loaders=num_loaders)
        self._indexes = BlockCache(self._load_index, size=len(whole.shards))
        self._replaced: set[tuple[int, int]] = set()
        # So many records are worth being told of; the other half is for those of now.
        self.num_ahead = cache_blocks // 2 * block_records

    def read(self, ids: NDArray[np.int64]) -> Payloads:
        """Payloads (bytes) of the records `ids`, int64 [n], in that order: objects [n].

        Raises:
            IndexError: a number outside of the split (or the slice).
            DataError: a record is damaged and no more may be replaced, a shard or its index is
                missing or is not the one that the manifest describes.
            StorageError: the storage refused.
        """
        result = np.empty(len(ids), object)
        if not len(ids):
            return result
        blocks, positions = self._places(ids)
        # A step in Python for each block, not for each record.
        order = np.argsort(blocks, kind="stable")
        blocks, positions = blocks[order], positions[order]
        starts = [0, *(np.flatnonzero(np.diff(blocks)) + 1).tolist()]
        for start, stop in zip(starts, [*starts[1:], len(ids)], strict=True):
            block = self._blocks.get(int(blocks[start]))
            rows, wanted = order[start:stop], positions[start:stop]
            result[rows] = block.payloads[wanted]
            for row, at in zip(rows.tolist(), wanted.tolist(), strict=True) if block.bad else ():
                if at in block.bad:
                    result[row] = self._stand_in(block, at)
        return result

    def blocks_of(self, ids: NDArray[np.int64]) -> list[int]:
        """The numbers of the blocks that hold these records, each once, in order of first use."""
        blocks, _ = self._places(ids)
        found, first = np.unique(blocks, return_index=True)
        ordered: list[int] = found[np.argsort(first)].tolist()
        return ordered

    def expect(self, blocks: Iterable[int], *, drop_others: bool = False) -> None:
        """Load what will be read next, in this order, in place of what was expected before.

        drop_others: free the memory of all other blocks at once.
        """
        self._blocks.expect(blocks, drop_others=drop_others)

    def locate(self, record: int) -> tuple[str, int]:
        """The file of a record and the record's number in it."""
        shard = int(np.searchsorted(self._bases, record, side="right")) - 1
        return self._shards[shard].file, record - int(self._bases[shard])

    def _places(self, ids: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Block and position in it of each record."""
        if ids.min() < self._low or ids.max() >= self._high:
            raise IndexError(f"records {ids.min()} to {ids.max()} of [{self._low}, {self._high})")
        shards = np.searchsorted(self._bases, ids, side="right") - 1
        numbers, positions = np.divmod(ids - self._bases[shards], self._block_records)
        return self._first_blocks[shards] + numbers, positions

    def _load(self, key: int) -> _Block:
        shard = int(np.searchsorted(self._first_blocks, key, side="right")) - 1
        start = (key - int(self._first_blocks[shard])) * self._block_records
        index = self._indexes.get(shard).part(start, self._block_records)

        def check(data: bytes) -> tuple[_Block, bool]:
            bad = check_records(data, index)
            payloads = np.fromiter(cut_records(data, index.offsets), object)
            return _Block(shard, start, index.offsets, payloads, bad), not bad

        file = self._shards[shard]
        first, end = index.offsets[[0, -1]].tolist()
        return self._pieces.read(Piece(file.file, file.crc32c, first, end - first), check)

    def _load_index(self, shard: int) -> Index:
        return read_index(self._pieces, self._shards[shard])

    def _stand_in(self, block: _Block, position: int) -> bytes:
        """What is read in place of a bad record."""
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
                    f" were replaced before and data.max_bad_records is {self._max_bad_records}:"
                    " run 'trainer data verify', prepare the data set again or raise the limit"
                )
            self._replaced.add(key)
        if self._on_bad is not None:
            file = self._shards[block.shard].file
            self._on_bad(file, int(block.offsets[position]), block.bad[position])

    def _replacement(self, block: _Block, position: int) -> bytes | None:
        """The next readable record after this one, around the end of the shard if need be."""
        base = int(self._bases[block.shard])
        low = max(self._low - base, 0)
        high = min(self._high - base, self._shards[block.shard].num_records)
        own = block.start + position
        for candidate in itertools.chain(range(own + 1, high), range(low, own)):
            number, at = divmod(candidate, self._block_records)
            there = self._blocks.get(int(self._first_blocks[block.shard]) + number)
            if at not in there.bad:
                payload: bytes = there.payloads[at]
                return payload
        return None

    def _describe(self, block: _Block, position: int) -> str:
        return (
            f"record {block.start + position} of {self._shards[block.shard].file} in"
            f" {self._pieces.storage.url}, at byte {block.offsets[position]}: {block.bad[position]}"
        )


def read_index(pieces: Pieces, shard: Shard) -> Index:
    """The verified index of a shard.

    Raises:
        DataError: the index is missing, or not the one that the manifest describes.
    """

    def check(data: bytes) -> tuple[Index | None, bool]:
        index = None
        if checksum(data) == shard.index_crc32c:
            index = decode_index(data, num_records=shard.num_records, size_bytes=shard.size_bytes)
        return index, index is not None

    # A byte more: nothing may follow.
    length = INDEX_ENTRY_BYTES * (shard.num_records + 1) + 1
    index = pieces.read(Piece(shard.index_file, shard.index_crc32c, 0, length), check)
    if index is None:
        raise DataError(
            f"{shard.index_file} in {pieces.storage.url} is damaged or of another version of the"
            " data set: prepare the data set again"
        )
    return index
