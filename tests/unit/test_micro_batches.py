"""A step in micro-batches is the step of all its records."""

from functools import cache
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.small_training import (
    Run,
    compiled,
    cpus,
    dataset_of,
    distance,
    equipped,
    layers_of,
    write_vectors,
)
from trainer.errors import ConfigError
from trainer.models.train_step import TrainStepModel


def stock(strategy: Any, **net: Any) -> Any:
    """The same network as a plain keras.Model."""
    return compiled(strategy, cls=keras.Model, **net)


class Unscaled(TrainStepModel):
    """A train_step of a user's that does not call scale_loss, with a log that is no metric."""

    def train_step(self, data: Any) -> dict[str, Any]:
        x, y = data
        with tf.GradientTape() as tape:
            predicted = self(x, training=True)
            loss = self.compute_loss(x, y, predicted)
        gradients = tape.gradient(loss, self.trainable_variables)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_variables, strict=True))
        self._loss_tracker.update_state(loss * tf.distribute.get_strategy().num_replicas_in_sync,
                                        sample_weight=tf.shape(x)[0])  # fmt: skip
        return {"mean_x": tf.reduce_mean(x), **self.compute_metrics(x, y, predicted)}


def own_step(strategy: Any, **net: Any) -> Any:
    """The same network with that step."""
    return compiled(strategy, cls=Unscaled, **net)


def trained(run: Run, replicas: int, make: Any, **net: Any) -> tuple[Any, Any]:
    """(model, end) of a run."""
    model = make(cpus(replicas), **net)
    return model, run.loop(model, cpus(replicas))


MAKES = {"compiled": compiled, "equipped": equipped, "stock": stock, "own step": own_step}


@cache
def in_one(url: str, make: str) -> tuple[Any, Any]:
    """(model, end) of a run on one device whose steps are not parted."""
    return trained(Run(dataset_of(url)), 1, MAKES[make], penalty=0.1)


# 53 records in steps of 16: the last has 5.
@pytest.mark.parametrize(
    ("make", "replicas", "parts"),
    [
        pytest.param("compiled", 1, 2, marks=pytest.mark.long),
        pytest.param("compiled", 2, 2, marks=pytest.mark.long),
        ("equipped", 2, 2),
        pytest.param("own step", 2, 2, marks=pytest.mark.long),
        ("stock", 2, 4),
        pytest.param("compiled", 1, 4, marks=pytest.mark.long),
        pytest.param("compiled", 4, 2, marks=pytest.mark.long),
        pytest.param("equipped", 1, 2, marks=pytest.mark.long),
        pytest.param("own step", 1, 2, marks=pytest.mark.long),
        pytest.param("stock", 1, 2, marks=pytest.mark.long),
        pytest.param("stock", 2, 2, marks=pytest.mark.long),
    ],
)
def test_a_step_in_parts_is_the_step_of_all(
    vectors: str, make: str, replicas: int, parts: int
) -> None:
    whole, wanted = in_one(vectors, make)
    run = Run(dataset_of(vectors), micro_batches=parts)
    model, end = trained(run, replicas, MAKES[make], penalty=0.1)
    assert distance(model, whole) < 1e-6
    assert end.epoch_logs == pytest.approx(wanted.epoch_logs, abs=1e-6)
    assert int(np.asarray(model.optimizer.iterations)) == 8


# Last steps of fewer records than there are parts.
@pytest.mark.long
@pytest.mark.parametrize(
    ("records", "replicas", "parts"),
    [(17, 1, 2), (35, 3, 2), (22, 4, 4), (18, 2, 4), (19, 4, 2)],
)
def test_a_smaller_last_step_counts_each_record_once(
    tmp_path: Any, records: int, replicas: int, parts: int
) -> None:
    dataset = dataset_of(write_vectors(tmp_path, {"train": [records]}))
    whole, wanted = trained(Run(dataset), 1, compiled)
    model, end = trained(Run(dataset, micro_batches=parts), replicas, compiled)
    assert distance(model, whole) < 1e-6
    assert end.epoch_logs == pytest.approx(wanted.epoch_logs, abs=1e-6)


CLIPS: dict[str, dict[str, float]] = {
    "clipnorm": {"clipnorm": 0.02}, "global_clipnorm": {"global_clipnorm": 0.05},
    "clipvalue": {"clipvalue": 0.01}, "free": {},
}  # fmt: skip


@cache
def clipped(url: str, clip: str, replicas: int = 1, parts: int = 1, *, scaled: bool = False) -> Any:
    """A model after a run whose gradients are clipped."""

    def optimizer() -> Any:
        plain = keras.optimizers.SGD(0.5, **CLIPS[clip])
        return keras.optimizers.LossScaleOptimizer(plain) if scaled else plain

    run = Run(dataset_of(url), micro_batches=parts)
    return trained(run, replicas, compiled, optimizer=optimizer)[0]


@pytest.mark.parametrize(
    "clip",
    [
        "global_clipnorm",
        *(pytest.param(n, marks=pytest.mark.long) for n in ("clipnorm", "clipvalue")),
    ],
)
@pytest.mark.parametrize(
    ("replicas", "is_scaled"),
    [
        pytest.param(1, False, id="plain-1", marks=pytest.mark.long),
        pytest.param(2, True, id="scaled-2"),
        pytest.param(1, True, id="scaled-1", marks=pytest.mark.long),
        pytest.param(2, False, id="plain-2", marks=pytest.mark.long),
    ],
)
def test_sums_are_clipped(vectors: str, replicas: int, clip: str, *, is_scaled: bool) -> None:
    whole = clipped(vectors, clip)
    model = clipped(vectors, clip, replicas, 2, scaled=is_scaled)
    assert distance(model, whole) < 1e-6
    assert distance(clipped(vectors, "free"), whole) > 1e-2, "nothing was clipped"


def test_micro_batches_have_their_static_size(vectors: str) -> None:
    seen = []

    class Shaped(TrainStepModel):
        def train_step(self, data: Any) -> Any:
            seen.append(data[0].shape[0])
            return super().train_step(data)

    dataset = dataset_of(vectors, train="train[:48]")
    trained(Run(dataset, micro_batches=2, epochs=1), 2, compiled, cls=Shaped)
    assert set(seen) == {4}


@pytest.mark.long
@pytest.mark.parametrize("replicas", [1, 2, 4])
def test_batch_norm_sees_micro_batches_of_all_replicas(vectors: str, replicas: int) -> None:
    dataset, net = dataset_of(vectors), {"normalize": True}
    alone, _ = trained(Run(dataset, micro_batches=2), 1, compiled, **net)
    model, _ = trained(Run(dataset, micro_batches=2), replicas, compiled, **net)
    whole, _ = trained(Run(dataset), replicas, compiled, **net)
    assert distance(model, alone) < 1e-6
    assert distance(model, whole) > 1e-3


def test_layers_without_a_gradient_stay(vectors: str) -> None:
    strategy = cpus(2)
    keras.utils.clear_session()
    with strategy.scope():
        model = TrainStepModel(*layers_of())
        model.extra = keras.layers.Dense(1)
        model.extra.build((1, 1))
        model.compile("sgd", "sparse_categorical_crossentropy", jit_compile=False)
    before = np.asarray(model.extra.kernel).copy()
    with pytest.warns(UserWarning, match="Gradients do not exist"):
        Run(dataset_of(vectors), micro_batches=2, epochs=1).loop(model, strategy)
    assert np.array_equal(model.extra.kernel, before)


class Twice(TrainStepModel):
    """Takes two steps in one."""

    def train_step(self, data: Any) -> Any:
        super().train_step(data)
        return super().train_step(data)


class Never(TrainStepModel):
    """Trains by other means than its optimizer."""

    def train_step(self, data: Any) -> Any:
        return self.test_step(data)


@pytest.mark.parametrize(
    ("cls", "said"), [(Twice, "applies gradients once"), (Never, "calls self.optimizer.apply")]
)
@pytest.mark.parametrize("replicas", [1, 2])
def test_a_step_that_cannot_be_accumulated_is_refused(
    vectors: str, replicas: int, cls: type, said: str
) -> None:
    with pytest.raises(ConfigError, match=f"{said}.* set train.accumulate_steps=1"):
        trained(Run(dataset_of(vectors), micro_batches=2), replicas, compiled, cls=cls)


def test_keras_own_accumulation_is_refused(vectors: str) -> None:
    with pytest.raises(ConfigError, match="gradient_accumulation_steps=3 of the optimizer"):
        trained(
            Run(dataset_of(vectors), micro_batches=2), 1, compiled,
            optimizer=lambda: keras.optimizers.SGD(gradient_accumulation_steps=3),
        )  # fmt: skip
