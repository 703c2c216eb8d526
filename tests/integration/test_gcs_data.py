"""Training data on `gs://`: the same batches as from a folder, and downloaded once."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tests.unit.test_prepare import build_small
from trainer.config import DataConfig
from trainer.data.builtin import resolve_data_url
from trainer.data.dataset import open_dataset
from trainer.data.manifest import MANIFEST_FILE
from trainer.data.pipeline import Place
from trainer.data.prepare import prepare
from trainer.data.spec import DataSpec
from trainer.errors import NoBucketError
from trainer.storage import gcs, open_storage

pytestmark = pytest.mark.needs_gcs

BUILT_IN = resolve_data_url("builtin:fashion_mnist")


@pytest.fixture
def url(proxy):
    """The built-in data set in the bucket."""
    # The client knows the last test's proxy.
    gcs._client.cache_clear()
    target = open_storage("gs://bucket/fashion_mnist")
    for file in Path(BUILT_IN).iterdir():
        target.write(file.name, file.read_bytes())
    return "gs://bucket/fashion_mnist"


def test_no_bucket_is_said_before_anything_is_built(proxy, tmp_path):
    gcs._client.cache_clear()

    def build(_request):
        raise AssertionError("built for nothing")

    with pytest.raises(NoBucketError, match="no bucket gs://nowhere"):
        prepare("small", "gs://nowhere/data", work=tmp_path, build=build)


def test_what_is_there_is_kept_and_not_downloaded(proxy, tmp_path):
    gcs._client.cache_clear()
    url, said = "gs://bucket/small", []
    prepare("small", url, work=tmp_path, build=build_small)
    open_storage(url).delete(MANIFEST_FILE)
    assert not downloads(proxy)
    prepare("small", url, work=tmp_path, build=build_small, on_progress=said.append)
    assert [line for line in said if line.startswith("kept")]
    assert not [line for line in said if line.startswith("copied") and ".index" not in line]
    assert not downloads(proxy)


def batches(url, cache, folder):
    config = DataConfig(url=url, batch_size=64, cache=cache, disk_cache_dir=str(folder))
    spec = DataSpec(lambda features: (features["image"], features["label"]))
    dataset = open_dataset(config, spec, seed=5, threads=2)
    pipeline = dataset.training(Place())
    # An epoch and some of the next.
    steps = pipeline.dataset(3).take(pipeline.order.steps_per_epoch + 5)
    return [tensor.numpy() for element in steps for tensor in tf.nest.flatten(element)]


def downloads(proxy):
    """Which objects were asked for, data and indexes."""
    return [line for line in proxy.requests if "/download/" in line and "tfrecord" in line]


@pytest.mark.parametrize("cache", ["stream", "memory"])
def test_a_run_gets_the_batches_of_a_local_folder_and_downloads_once(url, proxy, cache):
    with tempfile.TemporaryDirectory() as folder:
        found = [batches(source, cache, folder) for source in (BUILT_IN, url)]
        assert len(found[0]) == len(found[1])
        assert all(map(np.array_equal, *found))
        num_downloads = len(downloads(proxy))
        # Four shards of 1,250 records, in blocks of up to 500, and their indexes.
        assert num_downloads == 4 * 3 + 4
        assert all(map(np.array_equal, batches(url, cache, folder), found[0]))
        assert len(downloads(proxy)) == num_downloads
