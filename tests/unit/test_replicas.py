"""Arithmetic of several replicas."""

import threading
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.small_training import compiled, cpus
from trainer.errors import ConfigError
from trainer.models.optimizers import replica_step
from trainer.models.replicas import assign_everywhere, local_values, prepare_replicas


def metric_on(replicas: int) -> Any:
    """A sum that each replica counts for itself: 1, 2, … on replica 0, 1, …"""
    with cpus(replicas).scope():
        metric = keras.metrics.Sum()
    cpus(replicas).run(lambda: metric.update_state(1.0 + replica_number()))
    return metric.variables[0]


def replica_number() -> Any:
    return tf.cast(tf.distribute.get_replica_context().replica_id_in_sync_group, tf.float32)


@pytest.mark.parametrize(("replicas", "values"), [(1, [1]), (2, [1, 2]), (3, [1, 2, 3])])
def test_a_metric_has_a_value_a_replica(replicas: int, values: list[float]) -> None:
    assert [float(value) for value in local_values(metric_on(replicas))] == values


def test_a_weight_has_one_value() -> None:
    model = compiled(cpus(3))
    assert all(len(local_values(variable)) == 1 for variable in model.variables)


# replicas now, values saved, values put back
@pytest.mark.parametrize(
    ("replicas", "saved", "put_back"),
    [
        (1, [7], [7]),
        (2, [3, 4], [3, 4]),
        (1, [3, 4], [7]),
        (3, [3, 4], [7, 0, 0]),
        (2, [7], [7, 0]),
    ],
)
def test_totals_are_kept(replicas: int, saved: list[float], put_back: list[float]) -> None:
    variable = metric_on(replicas)
    assign_everywhere(variable, [np.float32(value) for value in saved])
    assert [float(value) for value in local_values(variable)] == put_back


def test_a_restored_weight_is_equal_on_all_replicas() -> None:
    variable = compiled(cpus(3)).variables[0]
    assign_everywhere(variable, [np.full((4, 8), 0.1, np.float32)])
    assert all(np.all(copy.numpy() == np.float32(0.1)) for copy in variable.value.values)


def test_an_optimizer_keeps_its_name_and_configuration() -> None:
    model = compiled(cpus(2))
    before = (type(model.optimizer).__name__, model.optimizer.get_config())
    prepare_replicas(model)
    prepare_replicas(model)
    assert (type(model.optimizer).__name__, model.optimizer.get_config()) == before
    assert isinstance(model.optimizer, keras.optimizers.Adam)


def test_batch_norm_is_synchronized_wherever_it_is() -> None:
    inner = keras.Sequential([keras.layers.Dense(2), keras.layers.BatchNormalization()])
    model = keras.Sequential([keras.Input((4,)), inner])
    model.compile("adam", "mse")
    prepare_replicas(model)
    assert inner.layers[1].synchronized


def test_keras_own_accumulation_is_refused() -> None:
    model = compiled(cpus(2), optimizer=lambda: keras.optimizers.SGD(gradient_accumulation_steps=4))
    with pytest.raises(ConfigError, match=r"=4 of the optimizer .* set train.accumulate_steps=4 "):
        prepare_replicas(model)


def step(optimizer: Any, *, scales_loss: bool) -> float:
    """How far one step of a gradient of 1 goes."""
    variable = keras.Variable(0.0)
    optimizer.build([variable])
    gradient = optimizer.scale_loss(tf.constant(1.0)) if scales_loss else tf.constant(1.0)
    optimizer.apply([gradient], [variable])
    return -float(variable)


@pytest.mark.parametrize("scales_loss", [False, True])
def test_a_weight_is_applied_once(*, scales_loss: bool) -> None:
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(1.0), "mse")
    prepare_replicas(model)
    with replica_step(tf.constant(0.25)):
        assert step(model.optimizer, scales_loss=scales_loss) == 0.25


def test_each_replica_has_its_own_weight() -> None:
    """Replicas are traced on threads that take turns, so one must not see another's."""
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    prepare_replicas(model)
    barrier, found = threading.Barrier(2, timeout=30), {}

    def replica(weight: float) -> None:
        with replica_step(tf.constant(weight)):
            barrier.wait()
            found[weight] = float(model.optimizer.scale_loss(tf.constant(1.0)))

    threads = [threading.Thread(target=replica, args=(weight,)) for weight in (0.5, 1.5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert found == {0.5: 0.5, 1.5: 1.5}
