"""Weights of records, several losses and their weights, on steps of any size."""

from functools import cache
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.small_training import Run, compiled, cpus, dataset_of, distance, equipped
from trainer.data.spec import DataSpec
from trainer.errors import ConfigError
from trainer.models.train_step import TrainStepModel


def two_outputs(features: dict[str, Any]) -> Any:
    """Two targets, and weights of the record for each; some are 0."""
    x, y = features["x"], features["y"]
    return x, (y, x[:1] * 3), (tf.cast(y, tf.float32) * 0.7, tf.maximum(x[2], 0.0))


def class_weights(features: dict[str, Any]) -> Any:
    """One target; a record weighs what its class does."""
    return features["x"], features["y"], tf.gather([0.2, 1.0, 3.5], features["y"])


def branching(strategy: Any, cls: type = TrainStepModel) -> Any:
    """A model of two outputs with weighted losses and metrics of all kinds."""
    keras.utils.clear_session()
    keras.utils.set_random_seed(5)
    with strategy.scope():
        x = keras.Input((4,))
        h = keras.layers.Dense(8, activation="tanh")(x)
        outputs = (
            keras.layers.Dense(3, activation="softmax", name="a")(h),
            keras.layers.Dense(1, name="b")(h),
        )
        model = cls(x, outputs)
        model.compile(
            keras.optimizers.Adam(0.02), ["sparse_categorical_crossentropy", "mse"],
            loss_weights=[0.3, 2.0], metrics=[["accuracy"], ["mae"]],
            weighted_metrics=[["accuracy"], ["mae"]], jit_compile=False,
        )  # fmt: skip
    return model


def weighted(strategy: Any, cls: type = TrainStepModel) -> Any:
    """One output, with a weighted metric."""
    model = compiled(strategy, cls=cls)
    with strategy.scope():
        model.compile(
            keras.optimizers.Adam(0.02), "sparse_categorical_crossentropy",
            weighted_metrics=["accuracy"], jit_compile=False,
        )  # fmt: skip
    return model


CASES = {"two outputs": (two_outputs, branching), "class weights": (class_weights, weighted)}


@cache
def by_fit(url: str, case: str) -> tuple[Any, Any]:
    """(model, end) of fit, which every run below is compared with."""
    decode, make = CASES[case]
    model = make(cpus(), cls=keras.Model)
    return model, Run(dataset_of(url, DataSpec(decode)), validation="test").fit(model, cpus())


# 53 records in steps of 16: the last has 5, and validation's 21 end with 5, too.
@pytest.mark.parametrize(
    "case", ["two outputs", pytest.param("class weights", marks=pytest.mark.long)]
)
@pytest.mark.parametrize(
    ("replicas", "parts"),
    [
        pytest.param(1, 1, marks=pytest.mark.long),
        pytest.param(2, 1, marks=pytest.mark.long),
        (2, 4),
        pytest.param(4, 1, marks=pytest.mark.long),
        pytest.param(1, 2, marks=pytest.mark.long),
    ],
)
def test_weights_and_several_losses_are_those_of_fit(
    vectors: str, case: str, replicas: int, parts: int
) -> None:
    decode, make = CASES[case]
    fitted, wanted = by_fit(vectors, case)
    model = make(cpus(replicas))
    run = Run(dataset_of(vectors, DataSpec(decode)), validation="test", micro_batches=parts)
    end = run.loop(model, cpus(replicas))
    assert distance(model, fitted) < 1e-6
    ours = {name: value for name, value in end.epoch_logs.items() if not name.startswith("val_")}
    assert ours == pytest.approx({name: wanted.epoch_logs[name] for name in ours}, abs=1e-6)


class Summed(keras.losses.MeanSquaredError):
    """A user's loss."""

    def __init__(self, reduction: str) -> None:
        super().__init__(reduction=reduction)


@pytest.mark.parametrize("reduction", ["sum", "none", "mean_with_sample_weight"])
@pytest.mark.parametrize(("replicas", "parts"), [(2, 1), (1, 2)])
@pytest.mark.parametrize("is_compiled", [True, False])
def test_a_loss_that_is_no_mean_is_refused(
    vectors: str, reduction: str, replicas: int, parts: int, *, is_compiled: bool
) -> None:
    strategy, loss = cpus(replicas), Summed(reduction)
    model = (compiled if is_compiled else equipped)(strategy)
    with strategy.scope():
        if is_compiled:
            model.compile("sgd", [loss], jit_compile=False)
        else:
            model.equip(optimizer=keras.optimizers.SGD(), loss=loss)
    dataset = dataset_of(vectors, DataSpec(lambda f: (f["x"], f["x"][:3])))
    with pytest.raises(ConfigError, match=f"'{reduction}' of Summed is no mean over records"):
        Run(dataset, micro_batches=parts).loop(model, strategy)


def tokens(features: dict[str, Any]) -> Any:
    """Sequences that end with zeros, and a target for each place."""
    is_there = tf.concat([[True], features["x"][1:] > 0], 0)
    ids = tf.cast(is_there, tf.int32) * tf.constant([3, 2, 1, 1])
    return ids, ids


def masking(strategy: Any, *, pooled: bool) -> Any:
    """A model with a mask; it reaches the loss unless it is pooled away."""
    keras.utils.clear_session()
    keras.utils.set_random_seed(5)
    with strategy.scope():
        x = keras.Input((4,), dtype="int32")
        h = keras.layers.Embedding(4, 3, mask_zero=True)(x)
        h = keras.layers.GlobalAveragePooling1D()(h) if pooled else h
        model = TrainStepModel(x, keras.layers.Dense(4, activation="softmax")(h))
        loss = "categorical_crossentropy" if pooled else "sparse_categorical_crossentropy"
        model.compile("sgd", loss, jit_compile=False)
    return model


@pytest.mark.parametrize(("replicas", "parts"), [(2, 1), (1, 2)])
def test_a_mask_that_reaches_the_loss_is_refused(vectors: str, replicas: int, parts: int) -> None:
    strategy = cpus(replicas)
    run = Run(dataset_of(vectors, DataSpec(tokens)), micro_batches=parts)
    with pytest.raises(ConfigError, match="the model masks its outputs"):
        run.loop(masking(strategy, pooled=False), strategy)


def test_a_mask_inside_of_the_model_is_fine(vectors: str) -> None:
    dataset = dataset_of(vectors, DataSpec(lambda f: (tokens(f)[0], tf.abs(f["x"]))))
    models = [masking(cpus(n), pooled=True) for n in (1, 2)]
    for model, replicas in zip(models, (1, 2), strict=True):
        Run(dataset).loop(model, cpus(replicas))
    assert distance(*models) < 1e-6


def test_one_device_takes_any_loss(vectors: str) -> None:
    model = compiled(cpus())
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(reduction="sum"))
    model.jit_compile = False
    Run(dataset_of(vectors)).loop(model, cpus())
    assert np.all(np.isfinite(model.layers[-1].kernel))
