"""A model's variables as arrays: named, copied, put back."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.small_storage import MemoryStorage
from tests.small_training import Run, compiled, cpus, dataset_of, same_weights
from trainer.checkpoint.state import ModelState
from trainer.checkpoint.store import CheckpointStore
from trainer.errors import CheckpointError, ConfigError
from trainer.models.build import build


class Block(keras.layers.Layer):
    """A layer whose parts get the same path in every block."""

    def __init__(self) -> None:
        super().__init__(name="block")
        self.dense = keras.layers.Dense(4, name="c")

    def call(self, x: Any) -> Any:
        return self.dense(x)


class Colliding(keras.Model):
    """Two blocks of one name, as subclassed models easily have."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = Block(), Block()

    def call(self, x: Any) -> Any:
        return self.two(self.one(x))


def built(replicas: int = 1, seed: int = 5, **net: Any) -> Any:
    """A small model with all its variables."""
    strategy = cpus(replicas)
    model = compiled(strategy, seed=seed, dropout=0.3, normalize=True, **net)
    build(model, strategy, (np.zeros((1, 4), np.float32), np.zeros(1, np.int64)))
    return model


def test_names_are_unique_where_paths_collide() -> None:
    keras.utils.clear_session()
    model = Colliding()
    model.compile("adam", "mse")
    model(np.zeros((1, 4), np.float32))
    model.optimizer.build(model.trainable_variables)
    paths = [variable.path for variable in model.variables]
    names = ModelState(model).snapshot().keys()
    assert len(set(paths)) < len(paths)
    assert len(names) == len(model.variables) + len(model.optimizer.variables) + 2


def test_everything_a_run_needs_is_there() -> None:
    names = ModelState(built()).snapshot().keys()
    parts = ("seed_generator_state", "moving_mean", "iteration", "learning_rate", "momentum")
    assert all(any(part in name for name in names) for part in parts)
    assert any(name.startswith("metric/") and name.endswith("/replica-0") for name in names)


def test_a_snapshot_is_a_copy() -> None:
    model = built()
    state = ModelState(model)
    snapshot = state.snapshot()
    before = {name: array.copy() for name, array in snapshot.items()}
    for variable in (*model.variables, *model.optimizer.variables, *model.metrics_variables):
        variable.assign(variable + tf.ones_like(variable))
    assert all(np.array_equal(snapshot[name], array) for name, array in before.items())


def test_the_next_snapshot_is_of_the_new_values() -> None:
    model = built()
    state = ModelState(model)
    state.snapshot()
    model.variables[0].assign_add(tf.ones_like(model.variables[0]))
    (name,) = [name for name in state.snapshot() if name.startswith("model/0000/")]
    assert np.array_equal(state.snapshot()[name], model.variables[0])


def test_a_round_trip_is_equal_to_the_bit(vectors: str) -> None:
    model = compiled(cpus(), dropout=0.3, normalize=True)
    Run(dataset_of(vectors), epochs=1).loop(model, cpus())
    store = CheckpointStore(MemoryStorage())
    arrays = ModelState(model).snapshot()
    metrics = [np.asarray(v).copy() for v in model.metrics_variables]
    store.save(4, arrays, state={}, metrics={})
    other = built(seed=77)
    ModelState(other).restore(store.read("step-00000004-f0").arrays)
    assert same_weights(model, other)
    assert all(np.array_equal(a, b) for a, b in zip(metrics, other.metrics_variables, strict=True))


def test_a_variable_that_no_checkpoint_holds_is_refused_by_name() -> None:
    model = built()
    model.add_weight(shape=(2,), dtype="complex64", initializer="zeros", name="phase")
    with pytest.raises(ConfigError, match=r"model/.*/phase has dtype complex64"):
        ModelState(model)


def totals(model: Any) -> list[float]:
    """Results of the metrics, over all replicas."""
    return [float(value) for value in model.get_metrics_result().values()]


@pytest.mark.parametrize("path", [(3, 2), pytest.param((2, 1, 3), marks=pytest.mark.long)], ids=str)
def test_metrics_survive_another_number_of_replicas(vectors: str, path: tuple[int, ...]) -> None:
    first, *others = path
    model = compiled(cpus(first), dropout=0.3, normalize=True)
    Run(dataset_of(vectors), epochs=1).loop(model, cpus(first))
    wanted, arrays = totals(model), ModelState(model).snapshot()
    for replicas in others:
        model = built(replicas, seed=77)
        ModelState(model).restore(arrays)
        assert totals(model) == pytest.approx(wanted, abs=1e-6)
        arrays = ModelState(model).snapshot()


def test_equal_replicas_get_their_own_metrics_back() -> None:
    model = built(2)
    state = ModelState(model)
    arrays = {name: array.copy() for name, array in state.snapshot().items()}
    own = [name for name in arrays if name.startswith("metric/")]
    arrays |= {name: np.full_like(arrays[name], number / 3) for number, name in enumerate(own)}
    state.restore(arrays)
    found = state.snapshot()
    assert all(np.array_equal(found[name], arrays[name]) for name in own)


def test_a_layer_may_be_called_replica() -> None:
    keras.utils.clear_session()
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, name="replica-x")])
    model.compile("adam", "mse")
    model.optimizer.build(model.trainable_variables)
    state = ModelState(model)
    arrays = {name: np.ones_like(array) for name, array in state.snapshot().items()}
    state.restore(arrays)
    assert all(np.all(array == 1) for array in state.snapshot().values())


def test_a_bfloat16_model_comes_back() -> None:
    keras.utils.clear_session()
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, dtype="bfloat16")])
    model.compile("sgd", "mse")
    model.optimizer.build(model.trainable_variables)
    state, store = ModelState(model), CheckpointStore(MemoryStorage())
    arrays = {name: array.copy() for name, array in state.snapshot().items()}
    store.save(1, arrays, state={}, metrics={})
    model.variables[0].assign(tf.zeros_like(model.variables[0]))
    state.restore(store.read("step-00000001-f0").arrays)
    assert all(np.array_equal(state.snapshot()[name], array) for name, array in arrays.items())


def refusal(arrays: dict[str, Any]) -> str:
    """The text with which the small model refuses the arrays."""
    with pytest.raises(CheckpointError) as caught:
        ModelState(built()).restore(arrays)
    return str(caught.value)


def test_another_model_is_refused_with_a_diff() -> None:
    arrays = dict(ModelState(built()).snapshot())
    kernel = next(name for name in arrays if name.endswith("dense/kernel"))
    bias = next(name for name in arrays if name.endswith("dense/bias"))
    del arrays[bias]
    text = refusal(arrays | {kernel: np.zeros((4, 9), np.float32)})
    assert f"{kernel}: checkpoint float32 (4, 9), model float32 (4, 8)" in text
    assert f"{bias}: checkpoint absent, model float32 (8,)" in text


def test_f20_another_optimizer_is_refused_with_a_diff() -> None:
    arrays = ModelState(built(optimizer=lambda: keras.optimizers.SGD(0.1))).snapshot()
    assert "optimizer/" in refusal(arrays)
    assert "and 15 more" in refusal({})


def test_whole_numbers_of_another_width_go_by_their_value() -> None:
    model, other = built(), built(seed=6)
    arrays = {
        name: array.astype(np.uint32) if array.dtype.kind == "i" else array
        for name, array in ModelState(model).snapshot().items()
    }
    assert sum(array.dtype == np.uint32 for array in arrays.values()) == 2  # seed and iterations
    ModelState(other).restore(arrays)
    assert same_weights(model, other)


def test_what_the_width_does_not_hold_is_refused() -> None:
    state = ModelState(built())
    arrays = dict(state.snapshot())
    name = next(name for name in arrays if name.endswith("iteration"))
    with pytest.raises(CheckpointError, match=r"iteration of the checkpoint holds .* beyond int64"):
        state.restore(arrays | {name: np.array(2**63, np.uint64)})


def test_nothing_is_changed_when_arrays_are_refused() -> None:
    model = built()
    state = ModelState(model)
    before = {name: array.copy() for name, array in state.snapshot().items()}
    with pytest.raises(CheckpointError):
        state.restore(ModelState(built(seed=9, optimizer=keras.optimizers.SGD)).snapshot())
    assert all(np.array_equal(state.snapshot()[name], array) for name, array in before.items())


def test_a_warm_start_takes_the_weights_alone(tmp_path: Path) -> None:
    model = built(seed=9)
    model.optimizer.iterations.assign(7)
    other = built()
    seeds = [np.asarray(v) for v in other.variables if "seed_generator" in v.path]
    ModelState(other).restore_weights(ModelState(model).snapshot())
    assert np.array_equal(model.trainable_variables[0], other.trainable_variables[0])
    assert int(other.optimizer.iterations) == 0
    assert np.array_equal(seeds[0], next(v for v in other.variables if "seed" in v.path))


def grown(replicas: int = 1, *, seed: int = 5, more: bool = True) -> Any:
    """The same with a layer at its begin and an output of its own."""
    strategy = cpus(replicas)
    keras.utils.clear_session()
    keras.utils.set_random_seed(seed)
    with strategy.scope():
        x = keras.Input((4,))
        y = keras.layers.Dense(4, name="first")(x) if more else x
        y = keras.layers.BatchNormalization(name="norm")(keras.layers.Dense(8, name="trunk")(y))
        y = keras.layers.Dense(5 if more else 3, name="head")(keras.layers.Dropout(0.3)(y))
        model = keras.Model(x, y)
        model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    build(model, strategy, (np.zeros((1, 4), np.float32), np.zeros(1, np.int64)))
    return model


def values(model: Any) -> dict[str, np.ndarray]:
    """The model's own, by path."""
    return {variable.path: np.asarray(variable).copy() for variable in model.variables}


@pytest.mark.parametrize("replicas", [1, 2])
def test_a_warm_start_of_shared_layers_leaves_the_others_as_they_were(replicas: int) -> None:
    origin, model = grown(seed=9, more=False), grown(replicas)
    origin.get_layer("norm").moving_mean.assign(np.arange(8.0))
    before, given = values(model), values(origin)
    shared = ModelState(model).restore_shared(ModelState(origin).snapshot())
    after = values(model)
    for path in ("trunk/kernel", "trunk/bias", "norm/moving_mean"):
        assert np.array_equal(after[path], given[path]), path
        assert path in shared.for_log()["taken"]
    own = [path for path in before if path.startswith(("first", "head")) or "seed" in path]
    assert len(own) == 5
    assert all(np.array_equal(after[path], before[path]) for path in own)
    assert not any("seed" in name for name in (*shared.fresh, *shared.unused))


def test_a_warm_start_of_shared_layers_of_a_strange_model_is_refused() -> None:
    model = grown()
    before = values(model)
    with pytest.raises(CheckpointError, match="finds no array of the checkpoint in the model"):
        ModelState(model).restore_shared(ModelState(built()).snapshot())
    assert all(np.array_equal(value, before[path]) for path, value in values(model).items())


def test_a_refused_warm_start_names_the_way_to_shared_layers() -> None:
    with pytest.raises(
        CheckpointError, match=r"(?s)first/kernel: checkpoint absent.*train\.start_layers=shared"
    ):
        ModelState(grown()).restore_weights(ModelState(grown(more=False)).snapshot())


def test_a_table_that_is_only_looked_up_needs_no_saving() -> None:
    model = keras.Sequential(
        [
            keras.Input((2,), dtype="int64"), keras.layers.IntegerLookup(vocabulary=[3, 5, 7]),
            keras.layers.Embedding(4, 2), keras.layers.Flatten(), keras.layers.Dense(1),
        ]
    )  # fmt: skip
    model.compile("adam", "mse")
    model.build()
    model.optimizer.build(model.trainable_variables)
    x, y = tf.constant([[3, 5]], tf.int64), tf.constant([[1.0]])
    model.train_step((x, y))
    step = tf.function(lambda: model.train_step((x, y))).get_concrete_function()
    ModelState(model).check_step(step)
