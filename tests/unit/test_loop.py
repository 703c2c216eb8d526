"""The loop does what Keras' fit does, on any number of devices."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.small_training import (
    NoBoundary,
    Run,
    compiled,
    cpus,
    dataset_of,
    distance,
    equipped,
    layers_of,
    same_weights,
    values,
    write_vectors,
)
from trainer.calls import CallSize
from trainer.checkpoint.position import Position, Schedule
from trainer.data.dataset import Dataset
from trainer.data.pipeline import Place
from trainer.errors import StoppedError
from trainer.evaluation import Evaluator
from trainer.models.build import build
from trainer.models.train_step import TrainStepModel


class Recorder(keras.callbacks.Callback):
    """Every hook with its arguments, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, ...]] = []
        for name in dir(keras.callbacks.Callback):
            if name.startswith("on_"):
                setattr(self, name, self._recording(name))

    def _recording(self, name: str) -> Any:
        def hook(*number: int, logs: Any = None) -> None:
            self.calls.append((name, number, dict(logs or {})))

        return hook


class StopAt(keras.callbacks.Callback):
    """Ends training after a step."""

    def __init__(self, epoch: int, batch: int | None = None) -> None:
        super().__init__()
        self._at, self._epoch = (epoch, batch), 0

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.model.stop_training = self.model.stop_training or (self._epoch, batch) == self._at

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.model.stop_training = self.model.stop_training or (epoch, None) == self._at


def trained(run: Run, replicas: int = 1, make: Any = compiled, **net: Any) -> Any:
    """A new model after the run."""
    strategy = cpus(replicas)
    model = make(strategy, **net)
    run.loop(model, strategy)
    return model


# ---- the same as fit -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def by_fit(vectors: str) -> Any:
    """A model after three epochs of plain fit."""
    model = compiled(cpus(), cls=keras.Model, dropout=0.3)
    Run(dataset_of(vectors), epochs=3, validation="test").fit(model, cpus())
    return model


def stock(strategy: Any, **net: Any) -> Any:
    """The same network as a plain keras.Model."""
    return compiled(strategy, cls=keras.Model, **net)


@pytest.mark.parametrize(
    ("make", "steps_per_call"), [(compiled, 1), (equipped, 7), (stock, 100), (compiled, None)]
)
def test_weights_are_those_of_fit_to_the_bit(
    vectors: str, by_fit: Any, make: Any, steps_per_call: int | None
) -> None:
    run = Run(dataset_of(vectors), epochs=3, validation="test", steps_per_call=steps_per_call)
    assert same_weights(trained(run, make=make, dropout=0.3), by_fit)


# Where a callback ends training, as (epoch, batch); the step that is then the last.
STOPS = {"never": (None, 12), "in epoch": ((1, 1), 6), "after epoch": ((1, None), 8)}


RARER = [pytest.param(stop, marks=pytest.mark.long) for stop in ("never", "after epoch")]


@pytest.fixture(scope="module", params=["in epoch", *RARER])
def both(request: pytest.FixtureRequest, vectors: str) -> tuple[Any, Any, int, bool]:
    """(recorder, model, end) of a run by the loop and by fit; the step to end at; stopped."""
    stop, step = STOPS[request.param]
    results = []
    for engine in (Run.loop, Run.fit):
        model, recorder = compiled(cpus(), dropout=0.3), Recorder()
        run = Run(dataset_of(vectors), epochs=3, validation="test", steps_per_call=1)
        end = engine(run, model, cpus(), [*([StopAt(*stop)] if stop else []), recorder])
        results.append((recorder.calls, model, end))
    return *results, step, stop is not None


def test_hooks_are_those_of_fit(both: Any) -> None:
    (ours, *_), (theirs, *_), _, _ = both
    assert [call[:2] for call in ours] == [call[:2] for call in theirs]
    assert [set(call[2]) for call in ours] == [set(call[2]) for call in theirs]
    for (_, _, mine), (_, _, other) in zip(ours, theirs, strict=True):
        assert mine == pytest.approx(other, abs=1e-6)


def test_a_stop_ends_both_engines_alike(both: Any) -> None:
    (_, ours, *ends), (_, theirs, end), step, is_stopped = both
    wanted = (step, is_stopped, "train")
    assert [(e.step, e.stop_training, e.phase) for e in (*ends, end)] == [wanted] * 2
    assert same_weights(ours, theirs)


# ---- a smaller last step ---------------------------------------------------------------------


def reference(model: Any, dataset: Dataset) -> tuple[float, float]:
    """One epoch by hand, each step on exactly its records; returns mean loss and accuracy."""
    order = dataset.training(Place()).order
    losses, hits = 0.0, 0
    for step in range(order.steps_per_epoch):
        records = [values(i) for i in order.step_ids(0, step)]
        x, y = np.stack([r["x"] for r in records]), np.stack([r["y"] for r in records])
        with tf.GradientTape() as tape:
            predicted = model(x, training=True)
            loss = tf.reduce_mean(keras.losses.sparse_categorical_crossentropy(y, predicted))
            loss += sum(model.losses)
        model.optimizer.apply(tape.gradient(loss, model.trainable_variables))
        losses += float(loss) * len(x)
        hits += int(np.sum(np.argmax(predicted, axis=1) == y))
    return losses / order.num_records, hits / order.num_records


# Steps of 16: last ones of 5 records on 1 and 3 replicas, of 1 on 2, and of 2 on 3.
@pytest.mark.parametrize(
    ("records", "replicas"),
    [(21, 3), *(pytest.param(*n, marks=pytest.mark.long) for n in ((21, 1), (17, 2), (18, 3)))],
)
def test_a_smaller_last_step_is_a_step_of_its_records(
    tmp_path: Path, records: int, replicas: int
) -> None:
    dataset = dataset_of(write_vectors(tmp_path, {"train": [records]}))
    net = {"normalize": True, "penalty": 0.1}
    by_hand = compiled(tf.distribute.get_strategy(), **net)
    by_hand.optimizer.build(by_hand.trainable_variables)
    wanted = reference(by_hand, dataset)
    strategy = cpus(replicas)
    model = compiled(strategy, **net)
    end = Run(dataset, epochs=1).loop(model, strategy)
    assert distance(model, by_hand) < 1e-6
    assert [end.epoch_logs["loss"], end.epoch_logs["accuracy"]] == pytest.approx(wanted, abs=1e-6)


# ---- several devices -------------------------------------------------------------------------


class Copies(keras.callbacks.Callback):
    """Copies of all variables after some epochs."""

    def __init__(self) -> None:
        super().__init__()
        self.after: dict[int, list[Any]] = {}

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if epoch in (2, 49):
            self.after[epoch] = [np.asarray(v).copy() for v in self.model.variables]


def test_two_devices_train_like_one(vectors: str) -> None:
    copies = [Copies(), Copies()]
    for devices, copy in zip((1, 2), copies, strict=True):
        model = compiled(cpus(devices), normalize=True)
        Run(dataset_of(vectors), epochs=50).loop(model, cpus(devices), [copy])
    for epoch, tolerance in [(2, 1e-6), (49, 1e-4)]:  # after 12 and 200 steps
        one, two = (copy.after[epoch] for copy in copies)
        assert max(np.max(np.abs(a - b)) for a, b in zip(one, two, strict=True)) < tolerance


@pytest.fixture(scope="module")
def penalized(vectors: str) -> tuple[Any, np.ndarray]:
    """(model, loss of each step) of a run on one device, with a regularizer."""
    run = Run(dataset_of(vectors), validation="test")
    return trained(run, penalty=0.2), np.concatenate([call.logs["loss"] for call in run.calls])


@pytest.mark.parametrize("make", [pytest.param(compiled, marks=pytest.mark.long), equipped])
def test_regularizers_count_once(vectors: str, penalized: Any, make: Any) -> None:
    run = Run(dataset_of(vectors), validation="test")
    model = trained(run, 2, make=make, penalty=0.2)
    assert distance(model, penalized[0]) < 1e-6
    losses = np.concatenate([call.logs["loss"] for call in run.calls])
    assert np.allclose(losses, penalized[1], atol=1e-6)


@pytest.mark.parametrize(
    "clip",
    [{"global_clipnorm": 0.05}, pytest.param({"clipvalue": 0.01}, marks=pytest.mark.long)],
    ids=lambda c: [*c],
)
def test_clipping_looks_at_the_records_of_all_replicas(vectors: str, clip: Any) -> None:
    models = [
        trained(Run(dataset_of(vectors)), n, optimizer=lambda: keras.optimizers.SGD(0.5, **clip))
        for n in (1, 2)
    ]
    assert distance(*models) < 1e-6


class NormModel(TrainStepModel):
    """A train_step of a user's, with a log that is no metric."""

    def train_step(self, data: Any) -> dict[str, Any]:
        x, y = data
        with tf.GradientTape() as tape:
            predicted = self(x, training=True)
            loss = self.compute_loss(x, y, predicted)
        gradients = tape.gradient(loss, self.trainable_variables)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_variables, strict=True))
        return {"mean_x": tf.reduce_mean(x), **self.compute_metrics(x, y, predicted)}


@pytest.mark.parametrize("replicas", [1, 3])
def test_logs_of_a_train_step_are_means_over_records(vectors: str, replicas: int) -> None:
    run = Run(dataset_of(vectors), epochs=1)
    trained(run, replicas, cls=NormModel)
    order = run.dataset.training(Place()).order
    wanted = [np.mean([values(i)["x"] for i in order.step_ids(0, k)]) for k in range(4)]
    found = np.concatenate([call.logs["mean_x"] for call in run.calls])
    assert np.allclose(found, wanted, atol=1e-6)


# 21 records: last steps of 5 and 1.
@pytest.mark.parametrize(
    ("replicas", "batch_size"),
    [(1, 8), (3, 10), *(pytest.param(2, n, marks=pytest.mark.long) for n in (8, 10))],
)
def test_validation_is_evaluate_over_every_record(
    vectors: str, replicas: int, batch_size: int
) -> None:
    strategy = cpus(replicas)
    model = compiled(strategy, penalty=0.1)
    dataset = dataset_of(vectors, eval_batch_size=batch_size)
    build(model, strategy, dataset.sample())
    place = Place(replicas=replicas)
    found = Evaluator(model, strategy, dataset, place).evaluate("test")
    records = [values(i) for i in range(21)]
    plain = compiled(cpus(), penalty=0.1)
    wanted = plain.evaluate(
        np.stack([r["x"] for r in records]), np.stack([r["y"] for r in records]),
        batch_size=batch_size, return_dict=True, verbose=0,
    )  # fmt: skip
    assert found == pytest.approx(wanted, abs=1e-6)


# ---- calls and boundaries --------------------------------------------------------------------


class EverySteps(NoBoundary):
    """Ends a call at every so many steps and notes where it was asked; may stop at one."""

    def __init__(self, every: int, stop_at: int | None = None) -> None:
        self.every, self.stop_at = every, stop_at
        self.asked: list[tuple[int, str]] = []

    def steps_until_save(self, step: int) -> int | None:
        return self.every - step % self.every

    def between_calls(self, position: Position) -> None:
        self.asked.append((position.step, position.phase))
        if position.step == self.stop_at:
            raise StoppedError("told to stop")

    after_epoch = between_calls


def test_calls_end_where_a_save_is_due(vectors: str) -> None:
    boundary = EverySteps(3)
    run = Run(dataset_of(vectors), epochs=2, steps_per_call=100, boundary=boundary)
    trained(run)
    # Calls grow from 1 step on; 3 and 6 end one, and so do epochs, at 4 and 8.
    assert [step for step, _ in boundary.asked] == [1, 2, 3, 4, 6, 8]


def test_a_stop_is_asked_for_in_validation_too(vectors: str) -> None:
    boundary = EverySteps(100)
    run = Run(dataset_of(vectors, eval_batch_size=4), epochs=1, validation="test",
              boundary=boundary)  # fmt: skip
    trained(run)
    assert (4, "validate") in boundary.asked
    assert boundary.asked[-1] == (4, "train")


def test_a_stop_ends_training_at_once(vectors: str) -> None:
    run = Run(dataset_of(vectors), steps_per_call=1, boundary=EverySteps(1, stop_at=2))
    with pytest.raises(StoppedError):
        trained(run)
    assert sum(call.num_steps for call in run.calls) == 2


def test_calls_grow_to_the_seconds_they_may_last() -> None:
    calls = CallSize(Schedule(1, 1000, call_seconds=1.0))
    sizes = []
    for _ in range(8):
        sizes.append(calls.size)
        # The first call also compiles.
        calls.measured(calls.size, 30.0 if len(sizes) == 1 else calls.size * 0.05)
    assert sizes == [1, 1, 2, 4, 8, 16, 20, 20]


def test_a_slow_step_shrinks_calls_to_one() -> None:
    calls = CallSize(Schedule(1, 1000, call_seconds=1.0))
    for seconds in (1.0, 0.1, 0.2, 50.0):
        calls.measured(calls.size, seconds)
    assert calls.size == 1


def test_times_of_steps_follow_each_other(vectors: str) -> None:
    run = Run(dataset_of(vectors), steps_per_call=100)
    trained(run)
    ended = np.concatenate([call.ended for call in run.calls])
    assert np.all(np.diff(ended) >= 0)
    # What the clock takes is taken off: no wait may be a little below 0.
    assert all(np.all(call.waited > -0.01) for call in run.calls)


# ---- building --------------------------------------------------------------------------------


class Noise(keras.layers.Layer):
    """Draws in evaluation, too, as the sampling layer of an autoencoder does."""

    def __init__(self) -> None:
        super().__init__()
        self.seed_generator = keras.random.SeedGenerator(1)

    def call(self, x: Any) -> Any:
        return x + keras.random.normal(tf.shape(x), seed=self.seed_generator)


def test_building_uses_up_no_randomness_and_no_metric(vectors: str) -> None:
    strategy = cpus()
    with strategy.scope():
        model = keras.Sequential([keras.Input((4,)), Noise(), keras.layers.Dense(3)])
        model.compile("adam", "sparse_categorical_crossentropy")
    before = [np.asarray(v).copy() for v in model.variables]
    build(model, strategy, dataset_of(vectors).sample())
    assert any("seed_generator_state" in v.path for v in model.variables)
    assert all(np.array_equal(a, b) for a, b in zip(before, model.variables, strict=True))
    assert all(not np.any(v) for v in model.metrics_variables)


def test_building_creates_every_variable(vectors: str) -> None:
    strategy = cpus(2)
    model = compiled(strategy)
    build(model, strategy, dataset_of(vectors).sample())
    slots = 2 * len(model.trainable_variables) + 2
    assert len(model.optimizer.variables) == slots
    assert len(model.metrics_variables) == 4


def test_a_subclassed_model_is_built(vectors: str) -> None:
    class Sub(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.net = keras.Model(*layers_of())

        def call(self, x: Any, training: bool = False) -> Any:
            return self.net(x, training=training)

    strategy = cpus()
    with strategy.scope():
        model = Sub()
        model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", jit_compile=False)
    Run(dataset_of(vectors), epochs=1).loop(model, strategy)
    assert int(model.optimizer.iterations) == 4
