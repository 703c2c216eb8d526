"""One prepared data set of a run: opened once, then asked for pipelines."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Protocol

from trainer.config import DataConfig
from trainer.data.batches import Batches, BatchOrder, BatchPipeline, Records
from trainer.data.builtin import resolve_data_url
from trainer.data.disk_cache import DiskCache, open_disk_cache
from trainer.data.manifest import Manifest, SplitSlice, class_names, parse_slice, read_manifest
from trainer.data.order import Order, TrainOrder
from trainer.data.pieces import Files, Pieces
from trainer.data.pipeline import Pipeline, Place
from trainer.data.plan import evaluation_order, training_order
from trainer.data.reader import OnBad, RecordReader
from trainer.data.source import Decoder, MemorySource, RecordSource, decoded_bytes, first_example
from trainer.data.spec import DataSpec
from trainer.data.tensorflow_files import TensorFlowFiles
from trainer.errors import ConfigError
from trainer.storage import Storage, is_remote, open_storage

# Ranged reads in flight at once, while a store's answers take tens of milliseconds.
_LOADERS = 8


class TrainingData(Protocol):
    """What a model is trained and evaluated on, of a recipe or of a script."""

    def training(self, place: Place, *, micro_batches: int = 1) -> Pipeline | BatchPipeline:
        """Endless batches to train on."""
        ...

    def training_order(self) -> Order:
        """How many steps an epoch has, and which records each takes."""
        ...

    def evaluation(self, text: str, place: Place) -> Pipeline | BatchPipeline:
        """Every record of a split or slice once."""
        ...

    def count(self, text: str) -> int:
        """Records of a split or slice; ConfigError when there is none such."""
        ...

    def class_names(self) -> dict[str, tuple[str, ...]]:
        """Names of the classes of each feature that has such."""
        ...


@dataclass(frozen=True)
class Dataset:
    """Where the records are, what they are, and how the run reads them."""

    storage: Storage
    manifest: Manifest
    config: DataConfig
    spec: DataSpec
    seed: int
    threads: int
    on_bad: OnBad | None = None

    def training(self, place: Place, *, micro_batches: int = 1) -> Pipeline | BatchPipeline:
        """Endless shuffled batches of `data.train`."""
        if self._batches is not None:
            return BatchPipeline(self._batches, place, self.threads, micro_batches)
        part = parse_slice(self.config.train, self.manifest)
        order, source = self._training_order, self._source(part, self.spec)
        return Pipeline(source, order, place, self.seed, self.threads, micro_batches)

    def training_order(self) -> TrainOrder | BatchOrder:
        """How many steps an epoch has, and which records each takes."""
        return self._training_order if self._batches is None else self._batches.order

    def evaluation(self, text: str, place: Place) -> Pipeline:
        """Every record of a split or slice once, in the order of the files."""
        part = parse_slice(text, self.manifest)
        order = evaluation_order(self.config, self.manifest, text)
        plain = replace(self.spec, augment=None)
        return Pipeline(self._source(part, plain), order, place, self.seed, self.threads)

    def count(self, text: str) -> int:
        """Records of a split or slice; ConfigError when there is none such."""
        return parse_slice(text, self.manifest).num_records

    def class_names(self) -> dict[str, tuple[str, ...]]:
        """Names of the classes of each feature that has such, as the data set brings them."""
        return class_names(self.storage)

    def sample(self) -> Any:
        """One decoded training example as a batch of one, to build a model on."""
        if self._batches is not None:
            return self._batches.sample
        part = parse_slice(self.config.train, self.manifest)
        return first_example(self._records(part, self.spec))

    @cached_property
    def _training_order(self) -> TrainOrder:
        return training_order(self.config, self.manifest, seed=self.seed)

    @cached_property
    def _batches(self) -> Batches | None:
        make = self.spec.batches
        if make is None:
            return None
        if self.spec.augment is not None:
            raise ConfigError("a recipe's data has batches and augment: augment inside of batches")
        part = parse_slice(self.config.train, self.manifest)
        records = Records(self._source(part, self.spec))
        size, drops = self.config.batch_size, self.config.last_batch == "drop"
        return Batches(lambda: make(records, size, self.seed), size, drop_last=drops)

    @property
    def _is_remote(self) -> bool:
        return is_remote(self.storage.url)

    @cached_property
    def _disk_cache(self) -> DiskCache | None:
        limit = self.config.disk_cache_mb * 1_000_000
        return open_disk_cache(self.config.disk_cache_dir, limit) if self._is_remote else None

    @cached_property
    def _decode(self) -> Decoder:
        return Decoder(self.storage, self.manifest, self.spec, self.config.preprocess)

    @cached_property
    def _files(self) -> Files:
        if not self._is_remote or self.config.gs_reader == "client":
            return self.storage
        shards = [shard for split in self.manifest.splits.values() for shard in split.shards]
        record = max(shard.size_bytes // max(shard.num_records, 1) for shard in shards)
        return TensorFlowFiles(self.storage.url, piece_bytes=record * self.config.block_records)

    def _source(self, part: SplitSlice, spec: DataSpec) -> RecordSource | MemorySource:
        records = self._records(part, spec)
        cache = self.config.cache
        limit = self.config.memory_limit_mb * 1_000_000
        if cache == "memory" or (cache == "auto" and decoded_bytes(records) <= limit):
            return MemorySource.of(records)
        return records

    def _records(self, part: SplitSlice, spec: DataSpec) -> RecordSource:
        windows = self.config.streams * (self.config.shuffle_blocks + 1)
        reader = RecordReader(
            Pieces(self._files, self.manifest.content_hash, self._disk_cache),
            self.manifest,
            part,
            block_records=self.config.block_records,
            max_bad_records=self.config.max_bad_records,
            cache_blocks=2 * windows,
            num_loaders=_LOADERS if self._is_remote else 0,
            on_bad=self.on_bad,
        )
        return RecordSource(self.manifest, part, spec, self._decode, reader)


def open_dataset(
    config: DataConfig,
    spec: DataSpec,
    *,
    seed: int,
    threads: int,
    on_bad: OnBad | None = None,
    open: Callable[[str], Storage] = open_storage,
) -> Dataset:
    """The data set that `data.url` names; DataError when there is none or it is damaged."""
    storage = open(resolve_data_url(config.url))
    return Dataset(storage, read_manifest(storage), config, spec, seed, threads, on_bad)
