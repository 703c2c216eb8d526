"""`trainer.fit` in one process: broken off and called again, it comes to the undisturbed result."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import trainer
from trainer.errors import CheckpointError, ConfigError, DataError


@pytest.fixture(autouse=True)
def given_back() -> Iterator[None]:
    """No run stays held, and no lease is refreshed, after its test."""
    # tf.data takes it for a part of a shuffle's seed: as in a new process, whatever ran before.
    keras.utils.set_random_seed(1)
    yield
    trainer.close()


RECORDS, BATCH = 70, 16
STEPS = 5  # an epoch's; the last has 6 records


class BrokenError(Exception):
    """What ends a life of the script."""


class Breaks(keras.callbacks.Callback):
    """Ends it after so many batches."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self._left = after

    def get_state(self) -> dict[str, Any]:
        return {}

    def set_state(self, state: dict[str, Any]) -> None:
        pass

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self._left -= 1
        if self._left == 0:
            raise BrokenError


class Batches(keras.utils.PyDataset):
    """Shuffles by itself at the end of each epoch, and keeps what it was asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.rng = np.random.default_rng(5)
        self.rows = np.arange(RECORDS)

    def __len__(self) -> int:
        return STEPS

    def __getitem__(self, number: int) -> Any:
        rows = self.rows[number * BATCH : (number + 1) * BATCH]
        return X[rows], Y[rows]

    def on_epoch_end(self) -> None:
        self.rng.shuffle(self.rows)


_rng = np.random.default_rng(3)
X = _rng.normal(size=(RECORDS, 4)).astype("float32")
Y = (X.sum(axis=1) > 0).astype("int64")


def generator() -> Iterator[Any]:
    rng = np.random.default_rng(8)
    while True:
        rows = rng.choice(RECORDS, BATCH)
        yield X[rows], Y[rows]


def shuffled() -> tf.data.Dataset:
    data = tf.data.Dataset.from_tensor_slices((X, Y))
    return data.shuffle(RECORDS, seed=4).batch(BATCH).prefetch(2)


# name -> what to call fit with
DATA: dict[str, Callable[[], dict[str, Any]]] = {
    "arrays": lambda: {"x": X, "y": Y, "batch_size": BATCH},
    "batch order": lambda: {"x": X, "y": Y, "batch_size": BATCH, "shuffle": "batch"},
    "steps": lambda: {"x": X, "y": Y, "batch_size": BATCH, "steps_per_epoch": 3},
    "weights": lambda: {"x": X, "y": Y, "batch_size": BATCH, "class_weight": {0: 1.0, 1: 3.0}},
    "py_dataset": lambda: {"x": Batches()},
    "py_dataset, own order": lambda: {"x": Batches(), "shuffle": False},
    "tf.data": lambda: {"x": shuffled()},
    "endless tf.data": lambda: {"x": shuffled().repeat(), "steps_per_epoch": 4},
    "generator": lambda: {"x": generator(), "steps_per_epoch": 4},
}
AT_EPOCHS = ("tf.data", "endless tf.data", "generator")


def make_model() -> keras.Model:
    keras.utils.clear_session()
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(8, "relu"),
            keras.layers.Dropout(0.3),
            keras.layers.Dense(2),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss, weighted_metrics=["accuracy"])
    return model


def live(folder: Path, call: dict[str, Any], **more: Any) -> tuple[keras.Model, Any]:
    """One life of a script that calls fit once."""
    trainer.setup(str(folder), overrides=["checkpoint.every_steps=2", "train.steps_per_call=2"])
    model = make_model()
    return model, trainer.fit(model, **call, **more)


def weights_of(model: keras.Model) -> list[Any]:
    return [
        *map(np.asarray, model.get_weights()),
        *(np.asarray(v) for v in model.optimizer.variables),
    ]


def assert_equal(one: keras.Model, other: keras.Model) -> None:
    for a, b in zip(weights_of(one), weights_of(other), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", DATA)
def test_broken_off_and_called_again(name: str, tmp_path: Path) -> None:
    whole, history = live(tmp_path / "whole", DATA[name](), epochs=3)
    with pytest.raises(Exception, match="Broken"):
        live(tmp_path / "broken", DATA[name](), epochs=3, callbacks=[Breaks(8)])
    saved = trainer.setup(str(tmp_path / "broken")).restored.checkpoint
    assert saved is not None
    steps = history.params["steps"]
    assert saved.manifest.step == (steps if name in AT_EPOCHS else 6)
    resumed, again = live(tmp_path / "broken", DATA[name](), epochs=3, callbacks=[Breaks(100)])
    assert_equal(whole, resumed)
    assert again.history == history.history
    assert again.epoch == [0, 1, 2]


def two_calls(
    folder: Path, *, first: int = 2, second: int = 2, breaks: int = 100, **more: Any
) -> Any:
    """A script that trains, freezes a layer and goes on with another rate."""
    trainer.setup(str(folder), overrides=["checkpoint.every_steps=2", "checkpoint.keep_last=1"])
    model = make_model()
    one = trainer.fit(model, X, Y, batch_size=BATCH, epochs=first, callbacks=[Breaks(breaks)])
    after_one = weights_of(model)
    model.layers[0].trainable = False
    model.compile(keras.optimizers.SGD(1e-3), keras.losses.SparseCategoricalCrossentropy(True))
    drawn = np.random.default_rng(np.random.randint(1000)).normal()
    two = trainer.fit(
        model,
        X,
        Y,
        epochs=second,
        callbacks=[Breaks(breaks - first * STEPS)],
        **({"batch_size": BATCH} | more),
    )
    return model, one.history, two.history, after_one, drawn


def test_several_calls(tmp_path: Path) -> None:
    whole = two_calls(tmp_path / "whole")
    with pytest.raises(Exception, match="Broken"):
        two_calls(tmp_path / "broken", breaks=14)
    saved = trainer.setup(str(tmp_path / "broken")).restored.checkpoint
    assert saved.manifest.step == 12
    assert [
        kept.step for kept in trainer.setup(str(tmp_path / "broken")).job.run.checkpoints.all()
    ] == [10, 12]
    resumed = two_calls(tmp_path / "broken")
    assert_equal(whole[0], resumed[0])
    # What the script sees of the call that had ended, and draws after it, is the same, too.
    assert resumed[1:3] == whole[1:3]
    for a, b in zip(resumed[3], whole[3], strict=True):
        np.testing.assert_array_equal(a, b)
    assert resumed[4] == whole[4]


def test_more_epochs_for_the_last_call(tmp_path: Path) -> None:
    whole = two_calls(tmp_path / "whole", second=3)
    two_calls(tmp_path / "longer", second=2)
    assert_equal(whole[0], two_calls(tmp_path / "longer", second=3)[0])
    with pytest.raises(CheckpointError, match=r"call 1 of trainer.fit ended at its step 10 of 15"):
        two_calls(tmp_path / "longer", first=3)


def test_another_call_is_refused(tmp_path: Path) -> None:
    two_calls(tmp_path)
    with pytest.raises(CheckpointError, match=r"call 2 of trainer.fit (.|\n)* batch_size: 16 -> 8"):
        two_calls(tmp_path, batch_size=8)
    trainer.setup(str(tmp_path))
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(True))
    with pytest.raises(CheckpointError, match="another model or optimizer"):
        trainer.fit(model, X, Y, batch_size=BATCH, epochs=2)
    trainer.setup(str(tmp_path))
    with pytest.raises(CheckpointError, match="content: "):
        trainer.fit(make_model(), X + 1, Y, batch_size=BATCH, epochs=2)


def test_a_damaged_end_is_named(tmp_path: Path) -> None:
    two_calls(tmp_path)
    for part in (tmp_path / "checkpoints").glob("*10*/*/*.safetensors"):
        part.write_bytes(b"damaged")
    with pytest.raises(CheckpointError, match=r"step 10, where call 1 of trainer.fit ended"):
        two_calls(tmp_path)


def test_a_damaged_checkpoint_is_named_and_passed_over(tmp_path: Path, capsys: Any) -> None:
    live(tmp_path, DATA["arrays"](), epochs=2)
    for part in (tmp_path / "checkpoints").glob("*10*/*/*.safetensors"):
        part.write_bytes(b"damaged")
    restored = trainer.setup(str(tmp_path)).restored
    assert restored.checkpoint is not None
    assert restored.checkpoint.manifest.step == 8
    assert "checkpoint skipped" in capsys.readouterr().out


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


WEIGHTS = np.linspace(0.5, 2.0, RECORDS, dtype="float32")


@pytest.mark.parametrize(
    "call",
    [
        {"x": X, "y": Y},
        {"x": X, "y": Y, "sample_weight": WEIGHTS, "batch_size": 10},
        {"x": X, "y": Y, "class_weight": {0: 0.2, 1: 2.0}},
        {"x": X, "y": Y, "batch_size": np.int64(10), "callbacks": keras.callbacks.TerminateOnNaN()},
        {"x": X, "y": Y, "steps_per_epoch": 3, "validation_split": 0.3, "validation_steps": 1},
        {"x": X, "y": Y, "steps_per_epoch": 5, "batch_size": BATCH},
        {"x": X, "y": Y, "validation_split": 0.2, "validation_batch_size": 5},
        {"x": X, "y": Y, "validation_data": (X[:9], Y[:9], WEIGHTS[:9]), "validation_freq": 2},
        {"x": X, "y": Y, "initial_epoch": 1},
        {"x": X.astype("float64"), "y": Y.astype("int32")},
        {"x": tf.data.Dataset.from_tensor_slices((X, Y)).batch(9)},
        {
            "x": tf.data.Dataset.from_tensor_slices((X, Y, WEIGHTS)).batch(9).repeat(),
            "steps_per_epoch": 5,
            "validation_data": tf.data.Dataset.from_tensor_slices((X, Y)).batch(7),
            "validation_steps": 2,
        },
    ],
)  # fmt: skip
def test_the_same_as_keras(call: dict[str, Any], tmp_path: Path) -> None:
    theirs, more = plain()
    wanted = theirs.fit(**call, **more, verbose=0)
    trainer.setup(str(tmp_path))
    ours, more = plain()
    found = trainer.fit(ours, **call, **more, verbose=0)
    assert found.epoch == wanted.epoch
    assert found.history.keys() == wanted.history.keys()
    for name, values in wanted.history.items():
        np.testing.assert_allclose(found.history[name], values, rtol=2e-5, err_msg=name)
    for a, b in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def two_inputs() -> keras.Model:
    """By position; two outputs, too."""
    keras.utils.clear_session()
    keras.utils.set_random_seed(1)
    inputs = [keras.Input((2,)), keras.Input((2,))]
    joined = keras.layers.Concatenate()(inputs)
    model = keras.Model(inputs, [keras.layers.Dense(1)(joined), keras.layers.Dense(1)(joined)])
    model.compile("sgd", ["mse", "mae"])
    return model


class Listed(keras.utils.PyDataset):
    """Batches of lists of arrays."""

    def __len__(self) -> int:
        return 2

    def __getitem__(self, number: int) -> Any:
        rows = slice(number * 35, number * 35 + 35)
        return [X[rows, :2], X[rows, 2:]], [Y[rows], X[rows, 0]]


BY_POSITION = {"x": [X[:, :2], X[:, 2:]], "y": [Y, X[:, 0]], "batch_size": 35}


# Batches of lists are more than Keras takes.
@pytest.mark.parametrize("call", [BY_POSITION, {"x": Listed()}], ids=["arrays", "batches"])
def test_inputs_and_outputs_by_position(call: dict[str, Any], tmp_path: Path) -> None:
    theirs, ours = two_inputs(), two_inputs()
    wanted = theirs.fit(**BY_POSITION, shuffle=False, verbose=0)
    trainer.setup(str(tmp_path))
    found = trainer.fit(ours, **call, shuffle=False, verbose=0)
    assert found.history.keys() == wanted.history.keys()
    assert found.history["loss"] == pytest.approx(wanted.history["loss"], rel=2e-5)
    for a, b in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_batches_of_different_lengths(tmp_path: Path) -> None:
    """As `padded_batch` makes them."""
    texts = [[1 + number % 7] * (1 + number // 8) for number in range(RECORDS)]
    single = tf.data.Dataset.from_generator(
        lambda: zip(texts, Y, strict=True),
        output_signature=(tf.TensorSpec([None], tf.int32), tf.TensorSpec([], tf.int64)),
    )
    counted = single.apply(tf.data.experimental.assert_cardinality(RECORDS))
    data = counted.padded_batch(BATCH)
    trainer.setup(str(tmp_path))
    losses = []
    for fit in (keras.Model.fit, trainer.fit):
        keras.utils.set_random_seed(1)
        layers = [keras.Input((None,), dtype="int32"), keras.layers.Embedding(9, 4, mask_zero=True)]
        layers += [keras.layers.GlobalAveragePooling1D(), keras.layers.Dense(2)]
        model = keras.Sequential(layers)
        model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        losses.append(fit(model, data, epochs=2, shuffle=False, verbose=0).history["loss"])
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)


def test_classes_below_zero_have_weights(tmp_path: Path) -> None:
    call = {
        "x": X, "y": 2 * Y[:, None] - 1, "class_weight": {-1: 0.1, 1: 5.0}, "shuffle": False,
    }  # fmt: skip
    trainer.setup(str(tmp_path))
    losses = []
    for fit in (keras.Model.fit, trainer.fit):
        keras.utils.set_random_seed(1)
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
        model.compile("sgd", "hinge")
        losses.append(fit(model, **call, verbose=0).history["loss"])
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)


def test_evaluate_and_predict(tmp_path: Path) -> None:
    trainer.setup(str(tmp_path))
    model, _ = plain()
    wanted = model.evaluate(X, Y, verbose=0, batch_size=9, return_dict=True)
    found = trainer.evaluate(model, X, Y, batch_size=9, return_dict=True)
    assert found == pytest.approx(wanted, rel=1e-5)
    in_order = trainer.evaluate(model, X, Y, batch_size=9)
    assert in_order == pytest.approx(model.evaluate(X, Y, verbose=0, batch_size=9), rel=1e-5)
    outputs = trainer.predict(model, X, batch_size=9)
    np.testing.assert_allclose(outputs, model.predict(X, verbose=0, batch_size=9), atol=1e-6)
    data = tf.data.Dataset.from_tensor_slices((X, Y)).batch(9)
    np.testing.assert_array_equal(trainer.predict(model, data), outputs)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ({"x": generator()}, "a generator, whose length nobody knows"),
        ({"x": shuffled().repeat()}, "has no end: give its steps"),
        ({"x": shuffled(), "y": Y}, "y is not used beside a"),
        ({"x": shuffled(), "batch_size": 3}, "batch_size is not used beside a"),
        ({"x": X, "y": Y[:9]}, "its arrays have 9 and 70 records"),
        ({"x": tf.data.Dataset.from_tensor_slices((X, Y))}, "arrays have no and 4 records"),
        ({"x": iter([(X, Y[:9])]), "steps_per_epoch": 1}, "arrays have 9 and 70 records"),
        ({"x": X, "y": Y, "validation_freq": [1, 3]}, r"validation_freq is \[1, 3\]: give a whole"),
        ({"x": X, "y": Y, "batch_size": 16.5}, r"batch_size is 16\.5: give a whole number"),
        ({"x": X, "y": Y, "steps_per_epoch": -1}, "number of its steps is -1: give a whole number"),
        ({"x": X, "y": Y, "class_weight": {0: 1}, "sample_weight": WEIGHTS}, "not both"),
        ({"x": shuffled(), "validation_split": 0.1}, "needs arrays"),
        ({"x": X, "y": Y, "validation_split": 0.999}, "leaves none on one side"),
        ({"x": iter([(X, Y)]), "steps_per_epoch": 2}, "ran out after batch 1"),
        ({"x": 7.5, "y": Y}, "a number where an array"),
        ({"x": None, "y": Y}, "x of trainer.fit is missing"),
    ],
)
def test_what_cannot_be_kept(call: dict[str, Any], message: str, tmp_path: Path) -> None:
    trainer.setup(str(tmp_path))
    model, _ = plain()
    with pytest.raises((ConfigError, DataError), match=message):
        trainer.fit(model, **call)


class Signals(Breaks):
    """Sends this process a signal after so many batches."""

    def __init__(self, after: int, number: int) -> None:
        super().__init__(after)
        self._number = number

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), self._number)


@pytest.mark.parametrize(
    ("number", "ends_with"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)]
)
def test_told_to_stop(number: int, ends_with: type[BaseException], tmp_path: Path) -> None:
    before = signal.getsignal(number)
    call = DATA["arrays"]()
    whole, _ = live(tmp_path / "whole", call, epochs=3)
    with pytest.raises(ends_with) as ended:
        live(tmp_path / "told", call, epochs=3, callbacks=[Signals(7, number)])
    if isinstance(ended.value, SystemExit):
        assert ended.value.code == 143
    assert signal.getsignal(number) is before
    saved = trainer.setup(str(tmp_path / "told")).restored.checkpoint
    assert saved is not None
    assert saved.manifest.step == 8  # two steps a call
    assert_equal(whole, live(tmp_path / "told", call, epochs=3, callbacks=[Breaks(100)])[0])


def test_told_to_stop_where_nothing_is_saved(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt, match="stopped inside an epoch"):
        live(tmp_path, DATA["tf.data"](), epochs=3, callbacks=[Signals(8, signal.SIGINT)])
    saved = trainer.setup(str(tmp_path)).restored.checkpoint
    assert saved is not None
    assert saved.manifest.step == STEPS


def test_a_loop_without_end(tmp_path: Path) -> None:
    trainer.setup(str(tmp_path)).calls = 100
    model, _ = plain()
    with pytest.raises(ConfigError, match="more than 100 times"):
        trainer.fit(model, X, Y)


def test_what_compile_says_in_vain_is_told(tmp_path: Path, capsys: Any) -> None:
    model, call = plain(epochs=1)
    model.compile(model.optimizer, model.loss, run_eagerly=True, steps_per_execution=4)
    trainer.setup(str(tmp_path))
    trainer.fit(model, X, Y, **call)
    said = capsys.readouterr().out
    assert "compile(run_eagerly=True)" in said
    assert "compile(steps_per_execution=4)" in said


def test_a_model_without_optimizer(tmp_path: Path) -> None:
    trainer.setup(str(tmp_path))
    with pytest.raises(ConfigError, match="optimizer"):
        trainer.fit(keras.Sequential([keras.layers.Dense(2)]), X, Y)
