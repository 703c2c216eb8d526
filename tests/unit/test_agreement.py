"""One, two and four replicas train the same: batch norm, clipping, micro-batches, a small step."""

from functools import cache
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.small_training import Run, cpus
from trainer.config import DataConfig
from trainer.data.dataset import open_dataset
from trainer.data.spec import DataSpec
from trainer.models.train_step import TrainStepModel

# Real pictures: nine steps of 32 and one of 12.
RECORDS, STEPS = 300, 10


def decode(features: dict[str, Any]) -> tuple[Any, Any]:
    """float32 [28, 28, 1] in [0, 1], and a class."""
    return tf.cast(features["image"], tf.float32) / 255.0, features["label"]


def convnet(strategy: Any) -> Any:
    """Two convolutions, each with batch normalization; always the same weights."""
    keras.utils.clear_session()
    keras.utils.set_random_seed(5)
    with strategy.scope():
        x = image = keras.Input((28, 28, 1))
        for filters in (4, 8):
            x = keras.layers.Conv2D(filters, 3, strides=2, use_bias=False)(x)
            # Smooth: at the kink of a ReLU, a rounding error of 1e-7 decides about a gradient.
            x = keras.layers.Activation("tanh")(keras.layers.BatchNormalization()(x))
        x = keras.layers.GlobalAveragePooling2D()(x)
        model = TrainStepModel(image, keras.layers.Dense(10, activation="softmax")(x))
        optimizer = keras.optimizers.Adam(0.005, global_clipnorm=0.5)
        model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.jit_compile = False
    return model


class Copies(keras.callbacks.Callback):
    """(variables, logs) at the end of each epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.after: list[tuple[list[np.ndarray], dict[str, float]]] = []

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.after.append(([np.asarray(v).copy() for v in self.model.variables], dict(logs)))


@cache
def trained(replicas: int, epochs: int) -> list[tuple[list[np.ndarray], dict[str, float]]]:
    """(variables, logs) after each epoch."""
    config = DataConfig(
        url="builtin:fashion_mnist", train=f"train[:{RECORDS}]", batch_size=32, streams=4,
        block_records=20,
    )  # fmt: skip
    dataset = open_dataset(config, DataSpec(decode), seed=3, threads=2)
    strategy = cpus(replicas)
    model = convnet(strategy)
    run, copies = Run(dataset, epochs=epochs, micro_batches=2), Copies()
    end = run.loop(model, strategy, [copies])
    assert end.step == epochs * STEPS
    return copies.after


def distance(some: list[np.ndarray], others: list[np.ndarray]) -> float:
    """The largest difference of a variable."""
    pairs = zip(some, others, strict=True)
    return max(float(np.max(np.abs(one - other))) for one, other in pairs)


# Two replicas train on, for the test of two hundred steps.
@pytest.mark.long
@pytest.mark.parametrize(("replicas", "epochs"), [(2, 20), (4, 1)])
def test_replicas_agree_after_ten_steps(replicas: int, epochs: int) -> None:
    (one, wanted), (several, logs) = trained(1, 20)[0], trained(replicas, epochs)[0]
    assert distance(one, several) < 1e-6
    assert logs == pytest.approx(wanted, abs=1e-6)


@pytest.mark.long
@pytest.mark.parametrize("replicas", [2, 4])
def test_replicas_agree_after_two_hundred_steps(replicas: int) -> None:
    (one, _), (several, logs) = trained(1, 20)[-1], trained(replicas, 20)[-1]
    assert distance(one, several) < 1e-4
    assert logs["loss"] < 1.8, "nothing was learned"
