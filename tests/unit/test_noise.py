"""Noise on several replicas: another on each, and the same again after a resume."""

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.small_training import cpus
from trainer.models.replicas import prepare_replicas


class Listed(keras.layers.Layer):
    """Draws from generators of its own, one by one."""

    def __init__(self) -> None:
        super().__init__()
        self.seeds = [keras.random.SeedGenerator(3), keras.random.SeedGenerator(4)]

    def call(self, x: Any, training: bool = False) -> Any:
        return x * sum(keras.random.uniform(tf.shape(x), seed=seed) for seed in self.seeds)


class Rank(keras.random.SeedGenerator):
    """A generator of a user's: its seeds do not come in order."""

    def next(self, ordered: bool = True) -> Any:
        return super().next(ordered=False)


class Owned(keras.layers.Layer):
    """Holds a generator of that class, and a layer with noise of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.seeds, self.inner = Rank(9), keras.layers.GaussianNoise(1.0)

    def call(self, x: Any, training: bool = False) -> Any:
        return self.inner(x, training=training) * keras.random.normal(tf.shape(x), seed=self.seeds)


LAYERS = {"dropout": lambda: keras.layers.Dropout(0.5), "listed": Listed, "owned": Owned}


class Drawn:
    """What `calls` steps of a layer on ones give: `outputs[call][replica]`, and the states."""

    def __init__(self, layer: str, replicas: int, calls: int = 3, *, prepare: bool = True) -> None:
        strategy = cpus(replicas)
        keras.utils.clear_session()
        keras.utils.set_random_seed(1)
        with strategy.scope():
            model = keras.Sequential([keras.Input((32,)), LAYERS[layer]()])
        if prepare:
            prepare_replicas(model)
        ones = tf.ones([4, 32])
        draw = tf.function(lambda: strategy.run(lambda: model(ones, training=True)))
        self.outputs = [
            [np.asarray(value) for value in strategy.experimental_local_results(draw())]
            for _ in range(calls)
        ]
        self.states = [
            [np.asarray(copy) for copy in strategy.experimental_local_results(variable.value)]
            for variable in model.variables
        ]


def same(one: Any, other: Any) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("replicas", [2, 4])
def test_each_replica_and_each_step_draws_its_own(layer: str, replicas: int) -> None:
    drawn = Drawn(layer, replicas)
    flat = [output.tobytes() for outputs in drawn.outputs for output in outputs]
    assert len(set(flat)) == 3 * replicas


@pytest.mark.parametrize("layer", LAYERS)
def test_noise_is_the_same_again(layer: str) -> None:
    one, other = Drawn(layer, 2), Drawn(layer, 2)
    assert all(same(a, b) for a, b in zip(one.outputs, other.outputs, strict=True))


@pytest.mark.parametrize("layer", LAYERS)
def test_states_are_those_of_one_device_on_every_replica(layer: str) -> None:
    one, four = Drawn(layer, 1), Drawn(layer, 4)
    assert len(one.states) == len(four.states) > 0
    for (wanted,), copies in zip(one.states, four.states, strict=True):
        assert len(copies) == 4
        assert all(np.array_equal(copy, wanted) for copy in copies)


@pytest.mark.parametrize("layer", LAYERS)
def test_on_one_device_nothing_changes(layer: str) -> None:
    ours, keras_own = Drawn(layer, 1), Drawn(layer, 1, prepare=False)
    assert all(same(a, b) for a, b in zip(ours.outputs, keras_own.outputs, strict=True))


def test_masks_of_replicas_are_independent() -> None:
    """They agree as often as chance has it, not in shifted or mirrored form."""
    drawn = Drawn("dropout", 2, 40).outputs
    one, two = (np.asarray(outputs) > 0 for outputs in zip(*drawn, strict=True))
    assert 0.45 < np.mean(one == two) < 0.55
