"""How fast records arrive: our path from a local folder and from GCS, native ones beside them.

Payloads only, before anything is decoded: a pass over 200 MB in records of 1 KB and of 100 KB, in
blocks of 2 MB. Ours are checked and opened anew for each pass, with nothing kept on disk. From a
folder they are compared in the order of the files and shuffled; the native reader then shuffles
as many records. The store is an emulator on this machine, which takes its share of the cores. And
what all this is for: how long steps of a training wait for data from there.
"""

import atexit
import io
import multiprocessing
import os
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from bench.pairs import Result, Turn, median_ratio, noise_floor, run_alone, take_turns, timed
from tests.emulator import emulator
from tests.small_data import shard_name, write_info
from trainer.data.builtin import resolve_data_url
from trainer.data.index import index_directory
from trainer.data.tfrecord import frame
from trainer.storage import open_storage

TOTAL_BYTES, NUM_SHARDS = 200_000_000, 10
AIM, WAIT_AIM = 0.9, 0.03
ROUNDS, WAIT_ROUNDS, WAIT_EPOCHS = 9, 3, 6
BUCKET = "bench"
# Streams, and blocks of each that are mixed: the defaults.
_WINDOW_BLOCKS = 8 * 4


@dataclass(frozen=True)
class Work:
    """Records of one size, and blocks and steps that suit it."""

    name: str
    record_bytes: int
    block_records: int
    batch_size: int

    @property
    def per_shard(self) -> int:
        """Records of one shard."""
        return TOTAL_BYTES // self.record_bytes // NUM_SHARDS

    @property
    def num_records(self) -> int:
        """Records of a pass."""
        return self.per_shard * NUM_SHARDS


SMALL = Work("1kb", 1000, block_records=2000, batch_size=256)
LARGE = Work("100kb", 100_000, block_records=20, batch_size=16)


def measure(work: Work) -> list[Result]:
    """MB/s, ours / native from a local folder, and ours / the client alone from the emulator."""
    from trainer.strategy import keep_freed_memory

    _start_store()
    keep_freed_memory()
    with tempfile.TemporaryDirectory(prefix="bench-input-") as folder:
        _write(work, Path(folder))
        url = _upload(folder, work.name)
        in_order = take_turns(
            {
                "ours": partial(_ours, work, folder, is_shuffled=False),
                "ours again": partial(_ours, work, folder, is_shuffled=False),
                "TFRecordDataset": partial(_native, work, folder, is_shuffled=False),
            },
            rounds=ROUNDS, warm_ups=1,
        )  # fmt: skip
        shuffled = take_turns(
            {
                "ours": partial(_ours, work, folder),
                "ours again": partial(_ours, work, folder),
                "TFRecordDataset": partial(_native, work, folder),
            },
            rounds=ROUNDS, warm_ups=1,
        )  # fmt: skip
        remote = take_turns(
            {
                "ours": partial(_ours, work, url),
                "ours again": partial(_ours, work, url),
                "client, 1 thread": partial(_client, work, 1),
                "client, 8 threads": partial(_client, work, 8),
            },
            rounds=ROUNDS, warm_ups=1,
        )  # fmt: skip
    fastest = min(("client, 1 thread", "client, 8 threads"), key=lambda name: median(remote[name]))
    return [
        _result(f"input_local_{work.name}", in_order, work, "TFRecordDataset"),
        _result(f"input_local_shuffled_{work.name}", shuffled, work, "TFRecordDataset"),
        _result(f"input_gcs_{work.name}", remote, work, fastest),
    ]


def _result(name: str, seconds: dict[str, list[float]], work: Work, baseline: str) -> Result:
    details = {
        contestant: f"{TOTAL_BYTES / 1e6 / median(turns):.0f} MB/s,"
        f" {work.num_records / median(turns):,.0f} records/s"
        for contestant, turns in seconds.items()
        if contestant != "ours again"
    }
    noise = noise_floor(seconds["ours"], seconds["ours again"])
    ratio = median_ratio(seconds[baseline], seconds["ours"])
    return Result(name, ratio, noise, AIM, "higher", details)


def _ours(work: Work, url: str, *, is_shuffled: bool = True) -> float:
    """Seconds of a pass as training reads it, or as validation does."""
    from trainer.config import DataConfig
    from trainer.data.dataset import open_dataset
    from trainer.data.pipeline import Place
    from trainer.data.spec import DataSpec

    config = DataConfig(
        url=url, batch_size=work.batch_size, block_records=work.block_records, cache="stream",
        disk_cache_mb=0,
    )  # fmt: skip
    spec = DataSpec(lambda features: (features["x"], features["x"]))
    dataset = open_dataset(config, spec, seed=0, threads=2)
    pipeline = dataset.training(Place()) if is_shuffled else dataset.evaluation("train", Place())
    chunks = pipeline.chunks(num_passes=1).with_options(_untuned())
    return timed(lambda: _count(work, (ids.shape.num_elements() for ids, *_ in chunks)))


def _native(work: Work, folder: str, *, is_shuffled: bool = True) -> float:
    """Seconds of a pass of TensorFlow's own reader, batched as ours."""
    import tensorflow as tf

    records = tf.data.TFRecordDataset(sorted(map(str, Path(folder).glob("*.tfrecord-*[0-9]"))))
    if is_shuffled:
        records = records.shuffle(_WINDOW_BLOCKS * work.block_records, seed=0)
    batches = records.batch(8 * work.batch_size).prefetch(2).with_options(_untuned())
    return timed(lambda: _count(work, (batch.shape[0] for batch in batches)))


def _untuned() -> Any:
    """Without tf.data's tuner: a pass often ends up to a second late, waiting for its thread."""
    import tensorflow as tf

    options = tf.data.Options()
    options.autotune.enabled = False
    return options


def _client(work: Work, num_threads: int) -> float:
    """Seconds in which Google's client downloads the shards, compared with their checksums."""
    from google.cloud import storage  # type: ignore[import-untyped]

    bucket = storage.Client(project="none").bucket(BUCKET)

    def download(shard: int) -> int:
        blob = bucket.blob(f"{work.name}/{shard_name('train', shard, NUM_SHARDS)}")
        return len(blob.download_as_bytes(raw_download=True, checksum="crc32c"))

    with ThreadPoolExecutor(num_threads) as pool:
        return timed(lambda: sum(pool.map(download, range(NUM_SHARDS))))


def _count(work: Work, sizes: Iterator[int]) -> None:
    found = sum(sizes)
    # The last step's rows may be padded.
    if not work.num_records <= found < work.num_records + 8 * work.batch_size:
        raise RuntimeError(f"{found} records of {work.num_records} arrived")


def _write(work: Work, folder: Path) -> None:
    """Random records, with features that nobody decodes."""
    import tensorflow_datasets as tfds

    random = np.random.default_rng(0)
    for shard in range(NUM_SHARDS):
        payloads = (random.bytes(work.record_bytes) for _ in range(work.per_shard))
        file = folder / shard_name("train", shard, NUM_SHARDS)
        file.write_bytes(b"".join(map(frame, payloads)))
    write_info(folder, {"train": [work.per_shard] * NUM_SHARDS})
    features = {"x": tfds.features.Scalar(np.int64)}
    tfds.features.FeaturesDict(features).save_config(str(folder))
    index_directory(str(folder))


def _upload(folder: str, prefix: str) -> str:
    """Copy a data set into the bucket; its URL."""
    url = f"gs://{BUCKET}/{prefix}"
    source, target = open_storage(folder), open_storage(url)
    for entry in source.list():
        target.write(entry.path, source.read(entry.path))
    return url


@cache
def _start_store() -> None:
    """Start the emulator for the rest of this process: the client stays with the first it met."""
    os.environ["PATH"] += f":{Path(__file__).parents[1] / '.tools'}"  # where `make tools` builds
    held = ExitStack()
    atexit.register(held.close)
    folder = held.enter_context(tempfile.TemporaryDirectory(prefix="bench-store-"))
    store = held.enter_context(emulator(Path(folder)))
    os.environ.update(store.environment())
    store.make_bucket(BUCKET)


def measure_wait() -> list[Result]:
    """Time that steps wait for data / time of steps, Fashion-MNIST from the emulator."""
    _start_store()
    builtin = resolve_data_url("builtin:fashion_mnist")
    url = _upload(builtin, "fashion_mnist")
    shares = take_turns(
        {
            "gs": _training(url, "auto"),
            "gs again": _training(url, "auto"),
            "gs, streamed": _training(url, "stream"),
            "local": _training(builtin, "auto"),
            "local, streamed": _training(builtin, "stream"),
        },
        rounds=WAIT_ROUNDS,
    )
    details = {name: f"{median(found):.2%}" for name, found in shares.items()}
    noise = noise_floor(shares["gs"], shares["gs again"])
    return [Result("input_data_wait", median(shares["gs"]), noise, WAIT_AIM, "lower", details)]


def _training(url: str, held: str) -> Turn:
    def turn() -> float:
        # TensorFlow's devices are chosen once a process.
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(1, mp_context=context) as pool:
            return pool.submit(_wait_share, url, held).result()

    return turn


def _wait_share(url: str, held: str) -> float:
    from prometheus_client import CollectorRegistry

    from trainer.job import Job
    from trainer.log import configure_logging, get_log
    from trainer.metrics import Metrics
    from trainer.recipes.catalog import load_run
    from trainer.run.run_dir import RunDir
    from trainer.stop import StopRequest
    from trainer.worker import train

    with tempfile.TemporaryDirectory(prefix="bench-input-") as folder:
        configure_logging(as_json=True, stream=io.StringIO())
        settings = (
            f"run.dir={folder}/run", f"data.url={url}", f"data.cache={held}",
            "data.disk_cache_mb=0", f"train.epochs={WAIT_EPOCHS}", "export.formats=[]",
        )  # fmt: skip
        registry = CollectorRegistry()
        config, recipe, params = load_run("fashion_mnist", settings)
        run = RunDir(config.run.dir, open_storage)
        train(Job(config, recipe, params, run, Metrics(registry), get_log(), StopRequest()))
    value: Callable[[str], Any] = partial(_value, registry)
    return value("trainer_data_wait_seconds_total") / value("trainer_step_duration_seconds_sum")


def _value(registry: Any, name: str) -> float:
    [found] = [s.value for m in registry.collect() for s in m.samples if s.name == name]
    return float(found)


MEASURES: dict[str, Callable[[], list[Result]]] = {
    f"input_{place}_{work.name}": measure_both
    for work, measure_both in ((work, partial(measure, work)) for work in (SMALL, LARGE))
    for place in ("local", "local_shuffled", "gcs")
} | {"input_data_wait": measure_wait}

if __name__ == "__main__":
    run_alone(MEASURES, about=__doc__)
