"""What a model makes of a split's records, computed by one worker alone."""

from typing import Any

import keras
import numpy as np
import pytest

from tests.small_training import compiled, cpus, dataset_of, layers_of, values
from trainer.data.pipeline import Place
from trainer.errors import ConfigError
from trainer.evaluation import Evaluator
from trainer.models.build import build


class Noise(keras.layers.Layer):
    """Draws in every call, also when nothing is trained."""

    def __init__(self) -> None:
        super().__init__()
        self.seeds = keras.random.SeedGenerator(3)

    def call(self, x: Any) -> Any:
        return x + keras.random.normal(keras.ops.shape(x), stddev=0.01, seed=self.seeds)


def evaluator(url: str, replicas: int = 1, model: Any = None, place: Place | None = None) -> Any:
    """(evaluator, model): of this worker, on logical CPUs."""
    strategy = cpus(replicas)
    model = model or compiled(strategy, normalize=True)
    dataset = dataset_of(url, eval_batch_size=4)
    build(model, strategy, dataset.sample())
    return Evaluator(model, strategy, dataset, place or Place(replicas=replicas)), model


@pytest.mark.parametrize(
    ("replicas", "place"),
    [(1, None), (2, None), (1, Place(worker=1, num_workers=3))],
    ids=["one device", "two", "one of three workers"],
)
def test_every_record_is_predicted_once_in_order(vectors: str, replicas: int, place: Any) -> None:
    found, model = evaluator(vectors, replicas, place=place)
    batches = list(found.predict("test"))
    x, y, outputs = (np.concatenate(parts) for parts in zip(*batches, strict=True))
    assert [len(part) for part, _, _ in batches] == [4] * 5 + [1]
    assert x.tolist() == [values(i)["x"].tolist() for i in range(21)]
    assert y.tolist() == [values(i)["y"] for i in range(21)]
    assert outputs == pytest.approx(np.asarray(model(x, training=False)), rel=1e-5)


def test_nothing_of_the_model_changes(vectors: str) -> None:
    with cpus(1).scope():
        x, y = layers_of()
        model = keras.Model(x, Noise()(y))
        model.compile("adam", "sparse_categorical_crossentropy")
    found, _ = evaluator(vectors, model=model)
    before = [np.asarray(variable) for variable in model.variables]
    first, again = ([o.numpy() for _, _, o in found.predict("test")] for _ in range(2))
    assert np.array_equal(np.concatenate(first), np.concatenate(again))
    after = [np.asarray(variable) for variable in model.variables]
    assert all(np.array_equal(*pair) for pair in zip(before, after, strict=True))


def test_a_split_that_is_not_there_is_named(vectors: str) -> None:
    found, _ = evaluator(vectors)
    with pytest.raises(ConfigError, match="no split 'tset'"):
        next(found.predict("tset"))
