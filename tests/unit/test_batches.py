"""Batches of a PyDataset: its own at any world size and from any step on, or refused."""

import math
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.small_training import as_pair, dataset_of, values
from tests.unit.test_pipeline import split, steps_of
from trainer.data.batches import Records
from trainer.data.order import permutation
from trainer.data.pipeline import Place
from trainer.data.spec import DataSpec
from trainer.errors import ConfigError

PLACE = Place()
STEPS = 4  # of 16, 16, 16 and 5 records


class Shuffled(keras.utils.PyDataset):
    """All records in a new order each epoch, with noise."""

    def __init__(self, records: Records, batch_size: int, seed: int) -> None:
        super().__init__()
        self.records, self.size, self.seed = records, batch_size, seed
        self.epoch = 0

    def __len__(self) -> int:
        return math.ceil(len(self.records) / self.size)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        order = permutation(len(self.records), self.seed, self.epoch)
        x, y = self.records[order[index * self.size : (index + 1) * self.size]]
        return x + self.rng(index).random(x.shape), y  # float64, as numpy's are

    def rng(self, index: int) -> np.random.Generator:
        return np.random.default_rng((self.seed, self.epoch, index))

    def on_epoch_end(self) -> None:
        self.epoch += 1


def pipeline_of(vectors: str, batches: Any = Shuffled, place: Place = PLACE, **config: Any) -> Any:
    return dataset_of(vectors, DataSpec(as_pair, batches=batches), **config).training(place)


@pytest.mark.parametrize("cache", ["memory", "stream"])
def test_records_are_had_by_number(vectors: str, cache: str) -> None:
    seen = {}

    class Looks(Shuffled):
        def __init__(self, records: Records, batch_size: int, seed: int) -> None:
            super().__init__(records, batch_size, seed)
            seen["one"], seen["some"] = records[21], records[np.array([5, 2])]
            seen["len"] = len(records)

    pipeline_of(vectors, Looks, cache=cache, train="train[:40]")
    assert seen["len"] == 40
    assert np.array_equal(seen["one"][0], values(21)["x"])
    assert np.array_equal(seen["some"][0], [values(5)["x"], values(2)["x"]])
    assert seen["some"][1].tolist() == [values(5)["y"], values(2)["y"]]


@pytest.mark.parametrize("cache", ["memory", "stream"])
def test_batches_are_those_of_the_source_epoch_by_epoch(vectors: str, cache: str) -> None:
    dataset = dataset_of(vectors, DataSpec(as_pair, batches=Shuffled), cache=cache)
    source = Shuffled(dataset._batches._source.records, 16, 3)
    found = steps_of(dataset.training(Place()), 2 * STEPS)
    for epoch in range(2):
        for step in range(STEPS):
            [(x, y, share)] = found[epoch * STEPS + step]
            wanted = source[step]
            assert x.dtype == np.float32
            assert np.array_equal(x, wanted[0].astype(np.float32))
            assert np.array_equal(y, wanted[1])
            assert share.tolist() == [[1.0, 1.0, len(wanted[1])]]
        source.on_epoch_end()


@pytest.mark.parametrize("start", [2, 5, 9])
def test_a_run_goes_on_from_any_step(vectors: str, start: int) -> None:
    whole = steps_of(pipeline_of(vectors), 3 * STEPS)
    for [one], [other] in zip(
        whole[start : start + 3], steps_of(pipeline_of(vectors), 3, start), strict=True
    ):
        assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize(("workers", "replicas", "parts"), [(1, 2, 1), (2, 2, 1), (2, 1, 2)])
def test_shares_of_all_make_up_the_batch(
    vectors: str, workers: int, replicas: int, parts: int
) -> None:
    dataset = dataset_of(vectors, DataSpec(as_pair, batches=Shuffled))
    alone = steps_of(dataset.training(Place(), micro_batches=parts), STEPS)
    each = [
        steps_of(dataset.training(Place(w, workers, replicas), micro_batches=parts), STEPS)
        for w in range(workers)
    ]
    for step, [whole] in enumerate(alone):
        shares = [split(element) for steps in each for element in steps[step]]
        for part, (x, _) in enumerate(split(whole)):
            found = np.concatenate([share[part][0] for share in shares])
            assert np.array_equal(found, x)


def test_the_smaller_last_batch_may_be_dropped(vectors: str) -> None:
    order = pipeline_of(vectors, last_batch="drop").order
    assert (order.steps_per_epoch, order.num_records) == (3, 48)


class Unrepeatable(Shuffled):
    def rng(self, index: int) -> np.random.Generator:
        return np.random.default_rng()


class Uneven(Shuffled):
    def __getitem__(self, index: int) -> Any:
        x, y = super().__getitem__(index)
        return (x[:3], y[:3]) if index == 1 else (x, y)


class Raising(Shuffled):
    def __getitem__(self, index: int) -> Any:
        return super().__getitem__(index if index != 1 else 1 // (index - 1))


class OtherStructure(Shuffled):
    def __getitem__(self, index: int) -> Any:
        x, y = super().__getitem__(index)
        return ({"x": x}, y) if index == 1 else (x, y)


@pytest.mark.parametrize(
    ("batches", "message"),
    [
        (Uneven, "gave 3 records as batch 1, and not 16"),
        (OtherStructure, "gave another structure as batch 1"),
        (Raising, "data set of batches raised ZeroDivisionError"),
    ],
)
def test_what_a_source_does_wrong_is_told_at_its_step(
    vectors: str, batches: Any, message: str
) -> None:
    pipeline = pipeline_of(vectors, batches)
    elements = iter(pipeline.dataset())
    next(elements)
    with pytest.raises(tf.errors.OpError) as caught:
        next(elements)
    explained = pipeline.explain(caught.value)
    assert isinstance(explained, ConfigError)
    assert message in str(explained)


class ShuffledByChance(Shuffled):
    """The same first epoch always, and another order after it."""

    def on_epoch_end(self) -> None:
        self.epoch = int(np.random.default_rng().integers(1, 2**31))


@pytest.mark.parametrize("batches", [Unrepeatable, ShuffledByChance])
def test_a_source_that_cannot_be_repeated_is_refused(vectors: str, batches: Any) -> None:
    with pytest.raises(ConfigError, match="other batches when it was made anew"):
        pipeline_of(vectors, batches)


class AsList(Shuffled):
    def __getitem__(self, index: int) -> Any:
        return list(super().__getitem__(index))


class Growing(Shuffled):
    def __len__(self) -> int:
        return super().__len__() + self.epoch


@pytest.mark.parametrize(
    ("batches", "message"), [(AsList, "a batch is a tuple"), (Growing, "5 batches in epoch 2")]
)
def test_what_is_no_source_of_batches_is_refused(vectors: str, batches: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        pipeline_of(vectors, batches)


class WithGaps(Shuffled):
    """What is not known is NaN, always in the same places."""

    def __getitem__(self, index: int) -> Any:
        x, y = super().__getitem__(index)
        return np.where(x < 0.5, np.nan, x), y


def test_numbers_that_are_missing_are_repeated_too(vectors: str) -> None:
    assert len(steps_of(pipeline_of(vectors, WithGaps), 1)) == 1


def test_no_batch_at_all_is_refused(vectors: str) -> None:
    with pytest.raises(ConfigError, match="drop leaves no batch of 16"):
        pipeline_of(vectors, train="train[:9]", last_batch="drop", streams=1)


def test_augment_beside_batches_is_refused(vectors: str) -> None:
    spec = DataSpec(as_pair, lambda example, _seed: example, Shuffled)
    with pytest.raises(ConfigError, match="augment inside of batches"):
        dataset_of(vectors, spec).training(Place())
