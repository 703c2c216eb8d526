"""A configured data set: which records each pass reads, and where they are kept."""

import numpy as np
import pytest

from tests.small_training import as_pair, dataset_of, values
from trainer.data.pipeline import Place
from trainer.data.source import MemorySource, RecordSource
from trainer.data.spec import DataSpec
from trainer.errors import ConfigError, DataError


def inputs(pipeline) -> np.ndarray:
    """Every x of one pass."""
    return np.concatenate([x.numpy() for (x, _), _ in pipeline.dataset(num_passes=1)])


def as_set(rows) -> set[bytes]:
    return {row.tobytes() for row in rows}


@pytest.mark.parametrize("cache", ["memory", "stream"])
def test_slices_share_no_record(vectors: str, cache: str) -> None:
    dataset = dataset_of(vectors, cache=cache, train="train[:80%]")
    trained = as_set(inputs(dataset.training(Place())))
    validated = as_set(inputs(dataset.evaluation("train[80%:]", Place())))
    assert not trained & validated
    assert trained | validated == as_set(values(i)["x"] for i in range(53))


# limit in MB, kind of source
@pytest.mark.parametrize(("limit", "kind"), [(512, MemorySource), (1, RecordSource)])
def test_auto_holds_small_sets_in_memory(limit: int, kind: type) -> None:
    spec = DataSpec(lambda f: (f["image"], f["label"]))
    dataset = dataset_of("builtin:fashion_mnist", spec, batch_size=16, memory_limit_mb=limit)
    assert isinstance(dataset.training(Place()).source, kind)


def test_evaluation_is_not_augmented(vectors: str) -> None:
    dataset = dataset_of(vectors, DataSpec(as_pair, lambda e, _seed: (e[0] + 100.0, e[1])))
    assert (
        inputs(dataset.training(Place())).min()
        > 50
        > inputs(dataset.evaluation("train", Place())).max()
    )


def test_the_sample_is_one_batched_example(vectors: str) -> None:
    x, y = dataset_of(vectors).sample()
    assert (x.shape, y.shape) == ((1, 4), (1,))
    assert np.array_equal(x[0], values(0)["x"])


def test_validation_may_use_larger_steps(vectors: str) -> None:
    orders = [
        dataset_of(vectors, eval_batch_size=size).evaluation("test", Place()).order
        for size in (None, 21)
    ]
    assert [order.steps_per_epoch for order in orders] == [2, 1]


def test_an_unknown_split_is_refused(vectors: str) -> None:
    with pytest.raises(ConfigError, match="no split 'tst': did you mean 'test'"):
        dataset_of(vectors).evaluation("tst", Place())


def test_a_folder_without_a_data_set_is_refused(tmp_path) -> None:
    with pytest.raises(DataError, match="run 'trainer data prepare NAME --to "):
        dataset_of(str(tmp_path))


def test_classes_have_the_names_that_the_data_set_brings(vectors: str) -> None:
    names = dataset_of("builtin:fashion_mnist", DataSpec(lambda f: f["label"])).class_names()
    assert names["label"][0] == "T-shirt/top"
    assert {name: len(classes) for name, classes in names.items()} == {"label": 10}
    assert list(dataset_of("builtin:tickets", DataSpec(lambda f: f)).class_names()) == [
        "department"
    ]
    assert dataset_of(vectors).class_names() == {}


def test_records_of_a_slice_are_counted(vectors: str) -> None:
    assert dataset_of(vectors).count("train[:10]") == 10
    with pytest.raises(ConfigError, match="no split 'tset'"):
        dataset_of(vectors).count("tset")
