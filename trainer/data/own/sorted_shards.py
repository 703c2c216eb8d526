"""Records into shards in the order of their hashes, whatever their number, by two passes on disk.

An order that is as good as random, and that hardly changes when records are added. Only one shard's
records are in memory at once.
"""

from pathlib import Path

from trainer.data.tfrecord import cut_records, frame, scan

KEY_BYTES = 16
SHARD_BYTES = 128 << 20


class SortedShards:
    """The files of a data set's splits in `folder`, of so many shards each."""

    def __init__(self, folder: Path, name: str, num_shards: dict[str, int]) -> None:
        self._folder, self._name, self._num_shards = folder, name, num_shards

    def add(self, split: str, key: bytes, payload: bytes) -> None:
        """One more record; it goes where its `key` says."""
        shard = int.from_bytes(key[:8]) * self._num_shards[split] >> 64
        # Opened each time: thousands of files could not be open at once.
        with self._unsorted(split, shard).open("ab") as file:
            file.write(frame(key + payload))

    def finish(self) -> dict[str, list[int]]:
        """Write the shards; how many records each has, by split."""
        return {
            split: [self._sort(split, shard) for shard in range(count)]
            for split, count in self._num_shards.items()
        }

    def _sort(self, split: str, shard: int) -> int:
        unsorted = self._unsorted(split, shard)
        data = unsorted.read_bytes() if unsorted.exists() else b""
        index = scan(lambda start, length: data[start : start + length], len(data)).index
        records = sorted(cut_records(data, index.offsets))
        of_all = f"{shard:05d}-of-{self._num_shards[split]:05d}"
        with (self._folder / f"{self._name}-{split}.tfrecord-{of_all}").open("wb") as file:
            file.writelines(frame(record[KEY_BYTES:]) for record in records)
        unsorted.unlink(missing_ok=True)
        return len(records)

    def _unsorted(self, split: str, shard: int) -> Path:
        return self._folder / f".unsorted-{split}-{shard:05d}"


def num_shards(size_bytes: int) -> int:
    """Shards for so many bytes."""
    return max(1, -(-size_bytes // SHARD_BYTES))
