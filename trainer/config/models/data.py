"""Keys of `data`."""

import math
from typing import Literal, Self

from pydantic import field_validator, model_validator

from trainer.config.fields import Section, changeable, free, identity
from trainer.config.locations import check_local_folder, check_location


class DataConfig(Section):
    """Which records are read, and in which order."""

    url: str = free(
        help="A prepared data set: a folder, gs://BUCKET/PREFIX, or builtin:NAME. Its content, not "
        "its place, is part of the run's identity."
    )
    preprocess: str | None = identity(
        None,
        help="package.module:name of a function that maps a record, {feature: tensor}, before the "
        "recipe's decode; traced into the tf.data graph.",
    )
    train: str = identity("train", help="Split or slice to train on, as in 'train[:90%]'.")
    validation: str | None = changeable(
        None, help="Split or slice to validate on after each epoch; callbacks may act on it."
    )
    test: str | None = free(None, help="Split or slice for the final test pass.")
    batch_size: int = identity(
        help="Records in one global step, over all replicas.", ge=1, le=10**9
    )
    eval_batch_size: int | None = changeable(
        None,
        help="Records in one validation or test step; data.batch_size by default.",
        ge=1,
        le=10**9,
    )
    streams: int = identity(
        8,
        help="Fixed record sequences that every world size shares: a multiple of each number "
        "of workers that the run may have; must divide data.batch_size.",
        ge=1,
    )
    block_records: int = identity(
        500, help="Consecutive records that are read and moved together.", ge=1, le=10**9
    )
    shuffle_blocks: int = identity(
        4,
        help="Blocks of a stream whose records are mixed with each other. Memory needed: "
        "streams x shuffle_blocks x block_records records.",
        ge=1,
    )
    last_batch: Literal["keep", "drop"] = identity(
        "keep", help="An epoch's last, smaller batch: train on it as it is, or drop it."
    )
    cache: Literal["auto", "memory", "stream"] = free(
        "auto", help="Hold decoded records in memory, or read blocks as they are needed."
    )
    memory_limit_mb: int = free(
        512, help="Decoded size up to which cache: auto holds the data in memory.", ge=1
    )
    gs_reader: Literal["client", "tensorflow"] = free(
        "client",
        help="Who reads records from gs://: Google's client, or TensorFlow's own file system, "
        "whose requests are not counted.",
    )
    disk_cache_mb: int = free(
        512,
        help="Of remote data, so much is kept on a local disk, for the next epoch and the next "
        "start; 0 for none.",
        ge=0,
    )
    disk_cache_dir: str | None = free(
        None,
        help="Local folder for it; runs may share one. By default the system's temporary folder.",
    )
    max_bad_records: int = free(
        0, help="Damaged records that may be replaced by their neighbours before giving up.", ge=0
    )

    _url = field_validator("url")(check_location)
    _disk_cache_dir = field_validator("disk_cache_dir")(check_local_folder)

    def parts_problem(self, replicas: int, micro_batches: int, num_workers: int) -> str | None:
        """Why a batch cannot be cut into so many equal parts; None if it can."""
        if self.streams % num_workers:
            return (
                f"data.streams {self.streams} cannot be shared by {num_workers} workers: use a "
                f"multiple of {num_workers}, and one of that for data.batch_size"
            )
        parts = replicas * micro_batches
        if self.batch_size % parts == 0 and self.batch_size % (self.streams * micro_batches) == 0:
            return None
        step = math.lcm(parts, self.streams * micro_batches)
        below = self.batch_size // step * step
        fits = [str(n) for n in (below, below + step) if n]
        over = f"{replicas} replicas"
        if micro_batches > 1:
            over = (
                f"{self.streams} streams and {replicas} replicas in {micro_batches} micro-batches "
                "(train.accumulate_steps)"
            )
        return (
            f"data.batch_size {self.batch_size} cannot be split over {over}: "
            f"use a multiple of {step} ({' or '.join(fits)})"
        )

    @model_validator(mode="after")
    def _batch_fits_streams(self) -> Self:
        if self.batch_size % self.streams:
            below = self.batch_size // self.streams * self.streams
            fits = [str(n) for n in (below, below + self.streams) if n]
            raise ValueError(
                f"batch_size {self.batch_size} cannot be split over {self.streams} streams: "
                f"use a multiple of {self.streams} ({' or '.join(fits)}), or other data.streams"
            )
        return self
