"""Arrays, and what a script of a user's gives to `trainer.fit`."""

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

RECORDS, BATCH = 70, 16
STEPS = 5  # an epoch's; the last has 6 records
SETTINGS = ["checkpoint.every_steps=2", "train.steps_per_call=2"]
_rng = np.random.default_rng(3)
X = _rng.normal(size=(RECORDS, 4)).astype("float32")
Y = (X.sum(axis=1) > 0).astype("int64")
WEIGHTS = np.linspace(0.5, 2.0, RECORDS, dtype="float32")


def generator() -> Iterator[Any]:
    rng = np.random.default_rng(8)
    while True:
        rows = rng.choice(RECORDS, BATCH)
        yield X[rows], Y[rows]


def shuffled() -> tf.data.Dataset:
    data = tf.data.Dataset.from_tensor_slices((X, Y))
    return data.shuffle(RECORDS, seed=4).batch(BATCH).prefetch(2)


def plain(shuffle: bool = False, **more: Any) -> tuple[keras.Model, dict[str, Any]]:
    """A model without noise, and arguments."""
    keras.utils.clear_session()
    keras.utils.set_random_seed(1)
    x = keras.Input((4,), name="a")
    y = keras.layers.Dense(2, name="b")(keras.layers.Dense(8, "relu")(x))
    model = keras.Model(x, y)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    weighted = keras.metrics.SparseCategoricalAccuracy(name="weighted")
    model.compile("adam", loss, metrics=["accuracy"], weighted_metrics=[weighted])
    return model, {"epochs": 2, "shuffle": shuffle} | more


class BrokenError(Exception):
    """What ends a life of the script."""


class Breaks(keras.callbacks.Callback):
    """Ends it after so many batches."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self._left = after

    def get_state(self) -> dict[str, Any]:
        return {}

    def set_state(self, state: dict[str, Any]) -> None:
        pass

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self._left -= 1
        if self._left == 0:
            raise BrokenError


def make_model() -> keras.Model:
    keras.utils.clear_session()
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(8, "relu"),
            keras.layers.Dropout(0.3),
            keras.layers.Dense(2),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss, weighted_metrics=["accuracy"])
    return model


def weights_of(model: keras.Model) -> list[Any]:
    return [
        *map(np.asarray, model.get_weights()),
        *(np.asarray(v) for v in model.optimizer.variables),
    ]


def assert_equal(one: keras.Model, other: keras.Model) -> None:
    for a, b in zip(weights_of(one), weights_of(other), strict=True):
        np.testing.assert_array_equal(a, b)
