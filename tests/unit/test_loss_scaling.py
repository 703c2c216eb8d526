"""Training in float16: scaled losses, and what happens when they overflow."""

from functools import cache
from typing import Any

import keras
import numpy as np
import pytest

from tests.small_training import Run, compiled, cpus, dataset_of, distance, equipped
from trainer.callbacks.non_finite import NonFiniteCallback
from trainer.errors import ConfigError, NonFiniteError
from trainer.models.train_step import TrainStepModel

SCALE = 2.0**60  # its gradients are infinite in float16, until it was halved some 40 times


@pytest.fixture
def float16():
    """The dtype policy of `train.precision: mixed_float16`; `clear_session` forgets it."""
    with pytest.MonkeyPatch.context() as patch:
        clear = keras.utils.clear_session
        patch.setattr(
            keras.utils, "clear_session",
            lambda: (clear(), keras.config.set_dtype_policy("mixed_float16")),
        )  # fmt: skip
        yield
    clear()


def scaled(scale: float = SCALE) -> Any:
    """Adam with a scale to begin with."""
    return keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(0.02), initial_scale=scale)


def trained(run: Run, replicas: int = 1, make: Any = compiled, **net: Any) -> Any:
    """A model after a run."""
    model = make(cpus(replicas), **net)
    run.loop(model, cpus(replicas))
    return model


def overflows(run: Run) -> np.ndarray:
    """Scales of the steps that were skipped, 0 of the others."""
    return np.concatenate([call.overflowed_at for call in run.calls])


@pytest.mark.parametrize("make", [compiled, equipped])
def test_the_optimizer_is_wrapped(float16: None, make: Any) -> None:
    assert isinstance(make(cpus()).optimizer, keras.optimizers.LossScaleOptimizer)


@pytest.mark.parametrize(
    ("replicas", "parts"),
    [
        (1, 1),
        (2, 2),
        pytest.param(1, 2, marks=pytest.mark.long),
        pytest.param(2, 1, marks=pytest.mark.long),
    ],
)
def test_overflows_are_skipped_and_told(
    vectors: str, float16: None, replicas: int, parts: int
) -> None:
    run = Run(dataset_of(vectors), epochs=20, micro_batches=parts)
    model = trained(run, replicas, optimizer=scaled)
    told = overflows(run)
    skipped = np.flatnonzero(told)
    assert len(told) == 80
    assert 20 < len(skipped) < 60
    assert told[:20].tolist() == [SCALE / 2**k for k in range(20)]
    assert int(np.asarray(model.optimizer.iterations)) == 80 - len(skipped)
    assert float(np.asarray(model.optimizer.dynamic_scale)) == SCALE / 2 ** len(skipped)
    assert all(np.all(np.isfinite(variable)) for variable in model.variables)
    losses = np.concatenate([call.logs["loss"] for call in run.calls])
    assert np.all(np.isfinite(losses))
    assert losses[-1] < losses[0]


@cache
def after_80_steps(url: str, replicas: int, parts: int) -> Any:
    """A model after a run whose first steps do not overflow."""
    run = Run(dataset_of(url), epochs=20, micro_batches=parts)
    return trained(run, replicas, optimizer=lambda: scaled(2.0**10))


@pytest.mark.parametrize(
    ("replicas", "parts"),
    [(2, 2), *(pytest.param(n, 1, marks=pytest.mark.long) for n in (2, 4))],
)
def test_replicas_and_micro_batches_agree_in_float16(
    vectors: str, float16: None, replicas: int, parts: int
) -> None:
    one = after_80_steps(vectors, 1, 1)
    assert distance(one, after_80_steps(vectors, replicas, parts)) < 0.05


def test_without_scaling_nothing_is_told(vectors: str) -> None:
    run = Run(dataset_of(vectors))
    trained(run)
    assert all(call.overflowed_at is None for call in run.calls)


class Unscaled(TrainStepModel):
    """A train_step that does not scale its loss."""

    def train_step(self, data: Any) -> Any:
        import tensorflow as tf

        with tf.GradientTape() as tape:
            loss = self.compute_loss(data[0], data[1], self(data[0], training=True))
        variables = self.trainable_variables
        self.optimizer.apply(tape.gradient(loss, variables), variables)
        return {"loss": loss}


@pytest.mark.parametrize("replicas", [1, 2])
def test_a_step_that_scales_nothing_is_refused(vectors: str, float16: None, replicas: int) -> None:
    with pytest.raises(ConfigError, match=r"self.optimizer.scale_loss\(loss\)"):
        trained(Run(dataset_of(vectors)), replicas, cls=Unscaled)


class NoGradient(keras.layers.Layer):
    """Adds 0, of which the gradient is no number."""

    def call(self, x: Any) -> Any:
        return x + keras.ops.sqrt(x * 0)


def test_gradients_that_are_never_numbers_end_training(vectors: str, float16: None) -> None:
    strategy = cpus()
    keras.utils.clear_session()
    keras.utils.set_random_seed(5)
    with strategy.scope():
        layers = [keras.Input((4,)), keras.layers.Dense(3), NoGradient(), keras.layers.Softmax()]
        model = keras.Sequential(layers)
        model.compile("adam", "sparse_categorical_crossentropy", jit_compile=False)
    check = NonFiniteCallback(steps_per_epoch=4)
    run = Run(dataset_of(vectors), epochs=20, on_call=check.on_call)
    # From 2**15, it takes 29 steps to get below 0.0001.
    with pytest.raises(NonFiniteError, match=r"not finite at step 30, at a loss scale of 6e-05"):
        run.loop(model, strategy, [check])
