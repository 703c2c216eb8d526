"""`trainer.fit` in one process: broken off and called again, it comes to the undisturbed result."""

import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import trainer
from tests.small_script import (
    BATCH,
    RECORDS,
    SETTINGS,
    STEPS,
    Breaks,
    X,
    Y,
    assert_equal,
    generator,
    make_model,
    shuffled,
    weights_of,
)
from trainer.errors import CheckpointError, ConfigError, TrainerError

pytestmark = pytest.mark.usefixtures("given_back")


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


def live(folder: Path, call: dict[str, Any], **more: Any) -> tuple[keras.Model, Any]:
    """One life of a script that calls fit once."""
    trainer.setup(str(folder), overrides=["checkpoint.every_steps=2", "train.steps_per_call=2"])
    model = make_model()
    return model, trainer.fit(model, **call, **more)


# Of the others, test_script_sources.py sees each batch.
USUAL = ("py_dataset",)
NAMES = [pytest.param(n, marks=() if n in USUAL else pytest.mark.long) for n in DATA]


@pytest.mark.parametrize("name", NAMES)
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


@pytest.mark.long
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


def test_another_first_epoch_is_refused(tmp_path: Path) -> None:
    call = DATA["arrays"]()
    with pytest.raises(Exception, match="Broken"):
        live(tmp_path, call, epochs=3, callbacks=[Breaks(8)])
    with pytest.raises(CheckpointError, match=r"initial_epoch: None -> 2\nchange it back"):
        live(tmp_path, call, epochs=3, initial_epoch=2)
    for name in ("epochs", "initial_epoch"):
        with pytest.raises(ConfigError, match=f"{name} is -1: give a whole number of at least 0"):
            live(tmp_path, call, **{name: -1})


def test_numbers_of_numpy_and_a_list_of_callbacks(tmp_path: Path) -> None:
    call = DATA["arrays"]() | {"initial_epoch": np.int64(1), "epochs": np.int64(3)}
    names: list[str] = []
    own = keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, _: names.append(str(epoch)))
    several = keras.callbacks.CallbackList([own], add_history=True, add_progbar=True)
    _, history = live(tmp_path, call, callbacks=several)
    assert (history.epoch, names) == ([1, 2], ["1", "2"])


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
    ("number", "ends_with"),
    [
        (signal.SIGINT, KeyboardInterrupt),
        pytest.param(signal.SIGTERM, SystemExit, marks=pytest.mark.long),
    ],
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


class Stateful(keras.callbacks.Callback):
    """Holds what no checkpoint would."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[float] = []


def test_a_call_that_was_refused_keeps_its_number_and_its_checkpoint(tmp_path: Path) -> None:
    call = DATA["arrays"]()
    whole, _ = live(tmp_path / "whole", call, epochs=3)
    with pytest.raises(Exception, match="Broken"):
        live(tmp_path / "broken", call, epochs=3, callbacks=[Breaks(8)])
    trainer.setup(str(tmp_path / "broken"), overrides=SETTINGS)
    model = make_model()
    for error, other in (
        ("batch_size: 16 -> 8", {"batch_size": 8}),
        ("Stateful has no get_state", {"callbacks": [Stateful()]}),
        ("give a whole number", {"validation_freq": 0}),
    ):
        with pytest.raises(TrainerError, match=error):
            trainer.fit(model, **(call | other), epochs=3)
    # Which says nothing of the next one, while that trains.
    measures = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda *_: trainer.evaluate(model, X, Y, batch_size=BATCH)
    )
    trainer.fit(model, **call, epochs=3, callbacks=[measures])
    assert_equal(whole, model)


def test_a_cell_that_was_broken_off_goes_on_when_it_is_run_again(tmp_path: Path) -> None:
    whole = two_calls(tmp_path / "whole")
    trainer.setup(str(tmp_path / "cells"), overrides=["checkpoint.every_steps=2"])
    model = make_model()

    def train(callback: Breaks) -> Any:
        return trainer.fit(model, X, Y, batch_size=BATCH, epochs=2, callbacks=[callback])

    with pytest.raises(Exception, match="Broken"):
        train(Breaks(8))
    assert train(Breaks(100)).history == whole[1]
    model.layers[0].trainable = False
    model.compile(keras.optimizers.SGD(1e-3), keras.losses.SparseCategoricalCrossentropy(True))
    with pytest.raises(KeyboardInterrupt, match="stopped at step 13, saved"):
        train(Signals(3, signal.SIGINT))
    assert train(Breaks(100)).history == whole[2]
    assert_equal(whole[0], model)
    # And another life finds two calls that have ended.
    assert_equal(whole[0], two_calls(tmp_path / "cells")[0])


@pytest.mark.long
def test_data_of_a_call_that_ended_is_as_it_is_in_any_life(tmp_path: Path) -> None:
    def script(folder: Path, *, breaks: bool) -> keras.Model:
        trainer.setup(str(folder), overrides=SETTINGS)
        model, data = make_model(), shuffled()
        trainer.fit(model, data, epochs=1)
        if breaks:
            with pytest.raises(Exception, match="Broken"):
                trainer.fit(model, X, Y, batch_size=BATCH, callbacks=[Breaks(3)])
        trainer.fit(model, X, Y, batch_size=BATCH, callbacks=[Breaks(100)])
        trainer.fit(model, data, epochs=1)
        return model

    whole = script(tmp_path / "whole", breaks=False)
    assert_equal(whole, script(tmp_path / "cells", breaks=True))


def test_a_call_inside_of_another_one(tmp_path: Path) -> None:
    class Nested(Breaks):
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            with pytest.raises(ConfigError, match=r"was called while trainer\.fit trains"):
                trainer.fit(self.model, X, Y, batch_size=BATCH)
            trainer.evaluate(self.model, X, Y, batch_size=BATCH)

    whole, _ = live(tmp_path / "whole", DATA["arrays"](), callbacks=[Breaks(100)])
    nested, _ = live(tmp_path / "nested", DATA["arrays"](), callbacks=[Nested(100)])
    assert_equal(whole, nested)


def test_what_was_broken_off_before_its_first_checkpoint_is_made_anew(tmp_path: Path) -> None:
    call = DATA["arrays"]() | {"epochs": 1}
    whole, _ = live(tmp_path / "whole", call)
    trainer.setup(str(tmp_path / "cells"))
    model = make_model()
    with pytest.raises(Exception, match="Broken"):
        trainer.fit(model, **call, callbacks=[Breaks(3)])
    with pytest.raises(
        ConfigError, match="has no checkpoint to begin with, and the model is no longer"
    ):
        trainer.fit(model, **call)
    model = make_model()
    trainer.fit(model, **call)
    assert_equal(whole, model)


@pytest.mark.parametrize(
    ("name", "spoiled_by"),
    [
        ("tf.data", "failure"),
        ("py_dataset", "setup"),
        pytest.param("tf.data", "setup", marks=pytest.mark.long),
        pytest.param("py_dataset", "failure", marks=pytest.mark.long),
        pytest.param("generator", "failure", marks=pytest.mark.long),
        pytest.param("generator", "setup", marks=pytest.mark.long),
    ],
)
def test_data_that_goes_on_where_it_was_left_is_made_anew(
    name: str, spoiled_by: str, tmp_path: Path
) -> None:
    whole, _ = live(tmp_path / "whole", DATA[name](), epochs=3)
    trainer.setup(str(tmp_path / "cells"), overrides=SETTINGS)
    model, call = make_model(), DATA[name]()
    if spoiled_by == "failure":
        with pytest.raises(Exception, match="Broken"):
            trainer.fit(model, **call, epochs=3, callbacks=[Breaks(8)])
    else:
        trainer.fit(model, **call, epochs=2)
        trainer.setup(str(tmp_path / "cells"), overrides=SETTINGS)
    with pytest.raises(ConfigError, match="so make it anew"):
        trainer.fit(model, **call, epochs=3)
    trainer.fit(model, **DATA[name](), epochs=3)
    assert_equal(whole, model)


def test_a_call_without_a_step_leaves_the_end_of_the_one_before(tmp_path: Path) -> None:
    call = DATA["arrays"]()

    def script(epochs: int = 0) -> tuple[list[Any], keras.Model]:
        trainer.setup(str(tmp_path), overrides=SETTINGS)
        model = make_model()
        trainer.fit(model, **call, epochs=1)
        after_one = weights_of(model)
        model.compile(keras.optimizers.SGD(1e-3), keras.losses.SparseCategoricalCrossentropy(True))
        assert trainer.fit(model, **call, epochs=epochs).history == {}
        assert trainer.fit(model, **call, epochs=2, initial_epoch=2).history == {}
        trainer.fit(model, **call, epochs=1)
        return after_one, model

    (before, whole), (again, resumed) = script(), script()
    for a, b in zip(before, again, strict=True):
        np.testing.assert_array_equal(a, b)
    assert_equal(whole, resumed)
    with pytest.raises(CheckpointError, match=r"call 2 of trainer.fit ended at its step 0 of 5"):
        script(epochs=1)


def test_a_later_call_has_a_file_of_its_own(tmp_path: Path) -> None:
    def log() -> Any:
        return keras.callbacks.CSVLogger(str(tmp_path / "log.csv"), append=True)

    model, _ = live(tmp_path / "run", DATA["arrays"](), epochs=1, callbacks=[log()])
    with pytest.raises(ConfigError, match="give it a file of its own in each call after that"):
        trainer.fit(model, **DATA["arrays"](), epochs=1, callbacks=[log()])


@pytest.mark.parametrize("is_shared", [True, pytest.param(False, marks=pytest.mark.long)])
def test_rows_of_a_later_call_are_kept(is_shared: bool, tmp_path: Path) -> None:
    def script(folder: Path, breaks: int = 100) -> list[str]:
        trainer.setup(str(folder / "run"), overrides=SETTINGS)
        files = [folder / "log.csv"] * 2 if is_shared else [folder / "1.csv", folder / "2.csv"]
        logs = [keras.callbacks.CSVLogger(str(file)) for file in files]
        model, call = make_model(), DATA["arrays"]()
        trainer.fit(model, **call, epochs=1, callbacks=logs[0])
        again = logs[0] if is_shared else logs[1]
        try:
            trainer.fit(model, **call, epochs=3, callbacks=[again, Breaks(breaks)])
        finally:
            again.on_train_end()
        return [file.read_text() for file in files]

    whole = script(tmp_path / "whole")
    with pytest.raises(Exception, match="Broken"):
        script(tmp_path / "broken", breaks=12)
    assert script(tmp_path / "broken") == whole
    assert script(tmp_path / "broken") == whole


def test_what_is_read_or_measured_is_progress(tmp_path: Path) -> None:
    told: list[int] = []

    def listen() -> None:
        told.clear()
        session = trainer.setup(str(tmp_path), overrides=SETTINGS)
        session.job = replace(session.job, on_progress=lambda step=None: told.append(step or -1))

    call: dict[str, Any] = {"x": generator(), "steps_per_epoch": 4, "epochs": 2}
    listen()
    model = make_model()
    with pytest.raises(Exception, match="Broken"):
        trainer.fit(model, **call, callbacks=[Breaks(6)])
    listen()
    with pytest.raises(Exception, match="Broken"):
        trainer.fit(make_model(), **(call | {"x": generator()}), callbacks=[Breaks(1)])
    # With the four batches of the first epoch, before a step was made.
    assert told[:5] == [-1] * 5
    listen()
    trainer.predict(model, shuffled().filter(lambda *_: True))
    assert told == [-1] * 3 * STEPS  # when they were counted, read, and computed
    told.clear()
    trainer.evaluate(model, X, Y, batch_size=BATCH)
    assert told
