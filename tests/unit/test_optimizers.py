"""Optimizers on several replicas, against the same by hand."""

from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.small_training import cpus
from trainer.errors import ConfigError
from trainer.models.optimizers import extend_optimizer, replica_step

INF, NAN = float("inf"), float("nan")
START = np.array([[0.5, -1.0], [2.0, 0.25]], np.float32)
RATE = 0.5


@dataclass(eq=False)
class Device:
    """Weights and an optimizer on replicas that get gradients from a table."""

    replicas: int
    optimizer: Any
    weights: list[Any] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.strategy = cpus(self.replicas)
        with self.strategy.scope():
            self.optimizer = self.optimizer()
            self.weights = [keras.Variable(row) for row in START]
            self.optimizer.build(self.weights)
        extend_optimizer(self.optimizer)

    def train(self, table: np.ndarray) -> list[np.ndarray]:
        """Steps of gradients [steps, replicas, 2, 2]; returns the weights, equal everywhere."""
        for step in table:
            self._step(tf.constant(step))
        copies = [self.strategy.experimental_local_results(w.value) for w in self.weights]
        for copy in copies:
            assert all(np.array_equal(value, copy[0]) for value in copy)
        return [np.asarray(copy[0]) for copy in copies]

    @tf.function
    def _step(self, gradients: Any) -> None:
        def replica() -> None:
            context = tf.distribute.get_replica_context()
            mine = gradients[context.replica_id_in_sync_group]
            with replica_step():
                scale = self.optimizer.scale_loss(tf.constant(1.0))
                self.optimizer.apply([mine[0] * scale, mine[1] * scale], self.weights)

        self.strategy.run(replica)

    def numbers(self, variable: Any) -> set[float]:
        """The values that a variable has on all replicas."""
        return {float(v) for v in self.strategy.experimental_local_results(variable.value)}


CLIPS: dict[str, dict[str, float]] = {
    "none": {}, "clipnorm": {"clipnorm": 0.8}, "global_clipnorm": {"global_clipnorm": 0.8},
    "clipvalue": {"clipvalue": 0.4},
}  # fmt: skip


def clipped(gradient: np.ndarray, clip: str) -> np.ndarray:
    """A gradient [2, 2] of two weights, by hand."""
    if clip == "clipvalue":
        return np.clip(gradient, -0.4, 0.4)
    if clip == "clipnorm":
        norms = np.linalg.norm(gradient, axis=1, keepdims=True)
        return gradient * np.minimum(1, 0.8 / norms)
    if clip == "global_clipnorm":
        return gradient * min(1, 0.8 / np.linalg.norm(gradient))
    return gradient


def random_table(replicas: int, steps: int = 6) -> np.ndarray:
    """Gradients some of which are clipped."""
    random = np.random.default_rng(replicas)
    return random.normal(scale=0.7, size=(steps, replicas, 2, 2)).astype(np.float32)


@pytest.mark.parametrize("clip", CLIPS)
@pytest.mark.parametrize("replicas", [1, 2, 4])
def test_sums_are_clipped(replicas: int, clip: str) -> None:
    table = random_table(replicas)
    device = Device(replicas, lambda: keras.optimizers.SGD(RATE, **CLIPS[clip]))
    wanted = START - RATE * sum(clipped(g, clip) for g in table.sum(axis=1))
    assert np.allclose(device.train(table), wanted, atol=1e-6)


def by_hand(table: np.ndarray, clip: str, scale: float) -> tuple[np.ndarray, float, int, int]:
    """(weights, scale, steps since it changed, steps not skipped), growing after two steps."""
    weights, since, done = START.copy(), 0, 0
    for gradient in table.sum(axis=1):
        if not np.all(np.isfinite(gradient)):
            scale, since = scale / 2, 0
            continue
        weights -= RATE * clipped(gradient, clip)
        done += 1
        scale, since = (scale * 2, 0) if since == 1 else (scale, since + 1)
    return weights, scale, since, done


@pytest.mark.parametrize("clip", CLIPS)
@pytest.mark.parametrize(
    ("replicas", "bad"),
    [(1, 0), (2, 1), *(pytest.param(*n, marks=pytest.mark.long) for n in ((2, 0), (4, 3)))],
    ids=str,
)
@pytest.mark.parametrize("value", [INF, NAN])
def test_an_overflow_on_any_replica_skips_the_step_on_all(
    replicas: int, bad: int, value: float, clip: str
) -> None:
    table = random_table(replicas)
    table[1, bad, 1, 0] = value
    table[4, bad, 0, 1] = value
    device = Device(
        replicas,
        lambda: keras.optimizers.LossScaleOptimizer(
            keras.optimizers.SGD(RATE, **CLIPS[clip]), initial_scale=64.0, dynamic_growth_steps=2
        ),
    )
    weights, scale, since, done = by_hand(table, clip, 64.0)
    assert np.allclose(device.train(table), weights, atol=1e-6)
    assert device.numbers(device.optimizer.dynamic_scale) == {scale}
    assert device.numbers(device.optimizer.step_counter) == {since}
    assert device.numbers(device.optimizer.inner_optimizer._iterations) == {done}


def test_opposite_infinities_are_no_number_either() -> None:
    table = random_table(2, steps=1)
    table[0, :, 0, 0] = INF, -INF
    device = Device(2, lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(RATE)))
    assert np.array_equal(device.train(table), START)


@pytest.mark.parametrize("replicas", [1, 2])
def test_float16_needs_a_loss_that_was_scaled(replicas: int) -> None:
    device = Device(replicas, lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD()))
    with replica_step(), pytest.raises(ConfigError, match=r"self.optimizer.scale_loss\(loss\)"):
        device.optimizer.apply([tf.ones(2), tf.ones(2)], device.weights)


def averages(table: np.ndarray, every: int | None) -> tuple[np.ndarray, np.ndarray]:
    """(weights, averages) by hand; `every` so many steps the averages become the weights."""
    weights, average = START.copy(), np.zeros_like(START)
    for number, gradient in enumerate(table.sum(axis=1)):
        weights = weights - RATE * gradient
        momentum = 0.9 if number else 0.0
        average = momentum * average + (1 - momentum) * weights
        if every and (number + 1) % every == 0:
            weights = average.copy()
    return weights, average


@pytest.mark.parametrize("every", [None, 2, 3])
@pytest.mark.parametrize("replicas", [1, 2, pytest.param(4, marks=pytest.mark.long)])
@pytest.mark.parametrize("is_scaled", [False, True], ids=["plain", "scaled"])
def test_averages_are_of_the_weights_of_all(
    replicas: int, every: int | None, *, is_scaled: bool
) -> None:
    table = random_table(replicas)

    def optimizer() -> Any:
        ema = {"use_ema": True, "ema_momentum": 0.9, "ema_overwrite_frequency": every}
        plain = keras.optimizers.SGD(RATE, **ema)
        return keras.optimizers.LossScaleOptimizer(plain) if is_scaled else plain

    device = Device(replicas, optimizer)
    weights, average = averages(table, every)
    assert np.allclose(device.train(table), weights, atol=1e-6)
    device.optimizer.finalize_variable_values(device.weights)
    assert np.allclose([np.asarray(w) for w in device.weights], average, atol=1e-6)


@pytest.mark.parametrize("clip", CLIPS)
def test_rows_of_an_embedding_are_clipped_as_one_gradient(clip: str) -> None:
    """Both replicas look up row 1, one of them twice."""
    strategy = cpus(2)
    with strategy.scope():
        table = keras.Variable(np.ones((5, 2), np.float32))
        optimizer = keras.optimizers.SGD(RATE, **CLIPS[clip])
        optimizer.build([table])
    extend_optimizer(optimizer)

    def replica() -> None:
        number = tf.distribute.get_replica_context().replica_id_in_sync_group
        rows = tf.constant([[1, 3], [1, 1]])[number]
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(tf.gather(table.value, rows))
        (gradient,) = tape.gradient(loss, [table.value])
        assert isinstance(gradient, tf.IndexedSlices)
        optimizer.apply([gradient], [table])

    tf.function(lambda: strategy.run(replica))()
    gradient = np.zeros((5, 2))
    gradient[1], gradient[3] = 3, 1
    # It is the only gradient, so both norms are its own.
    wanted = clipped(gradient, "global_clipnorm" if clip == "clipnorm" else clip)
    assert np.allclose(np.asarray(table), 1 - RATE * wanted, atol=1e-6)
