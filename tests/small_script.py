"""Arrays, and what a script of a user's gives to `trainer.fit`."""

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

RECORDS, BATCH = 70, 16
STEPS = 5  # an epoch's; the last has 6 records
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
