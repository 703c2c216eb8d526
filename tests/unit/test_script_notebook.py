"""Cells of a notebook: interrupted, run again, run in another order; the process lives on."""

import signal
from itertools import islice
from pathlib import Path
from typing import Any

import keras
import pytest

import trainer
from tests.small_script import (
    BATCH,
    SETTINGS,
    Breaks,
    X,
    Y,
    assert_equal,
    generator,
    make_model,
    shuffled,
)
from trainer.checkpoint.names import SUMMARY_FILE
from trainer.errors import CheckpointError, ConfigError, StorageError
from trainer.run.run_dir import RunDir

pytestmark = pytest.mark.usefixtures("given_back")

ARRAYS = {"x": X, "y": Y, "batch_size": BATCH, "epochs": 3}


class Interrupts(Breaks):
    """Ctrl-C at a hook, once; without anything to save, or twice in a row."""

    def __init__(self, hook: str, times: int = 1) -> None:
        super().__init__(0)
        self._hook, self._times = hook, times
        setattr(self, hook, self._interrupt)

    def _interrupt(self, *_: Any, **__: Any) -> None:
        times, self._times = self._times, 0
        for _ in range(times):
            signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize(
    ("hook", "times"),
    [
        ("on_train_begin", 1),
        ("on_train_batch_end", 2),
        pytest.param("on_train_end", 1, marks=pytest.mark.long),
    ],
)
def test_an_interrupt_ends_the_cell_and_not_the_notebook(
    hook: str, times: int, tmp_path: Path
) -> None:
    trainer.setup(str(tmp_path / "whole"), overrides=SETTINGS)
    whole = make_model()
    history = trainer.fit(whole, **ARRAYS, callbacks=[Breaks(100)]).history
    trainer.setup(str(tmp_path / "cells"), overrides=SETTINGS)
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(make_model(), **ARRAYS, callbacks=[Interrupts(hook, times)])
    assert signal.getsignal(signal.SIGINT) is before
    model = make_model()
    assert trainer.fit(model, **ARRAYS, callbacks=[Breaks(100)]).history == history
    assert_equal(whole, model)


def test_a_model_that_was_broken_off_is_known_after_setup(tmp_path: Path) -> None:
    trainer.setup(str(tmp_path))
    model = make_model()
    with pytest.raises(Exception, match="Broken"):
        trainer.fit(model, **ARRAYS, callbacks=[Breaks(3)])
    for _ in range(2):
        trainer.setup(str(tmp_path))
        with pytest.raises(ConfigError, match="the model is no longer as it was, since a call"):
            trainer.fit(model, **ARRAYS)
        trainer.close()
    trainer.setup(str(tmp_path))
    trainer.fit(make_model(), **ARRAYS)


def test_what_is_read_once_is_made_anew(tmp_path: Path) -> None:
    trainer.setup(str(tmp_path))
    model, pairs = make_model(), islice(generator(), 100)
    call: dict[str, Any] = {"steps_per_epoch": 4, "epochs": 2}
    with pytest.raises(Exception, match="Broken"):
        trainer.fit(model, pairs, **call, callbacks=[Breaks(6)])
    with pytest.raises(ConfigError, match=r"a islice was read before .* so make it anew$"):
        trainer.fit(model, pairs, **call)


def test_data_that_an_ended_call_has_read_is_made_anew_with_that_call(tmp_path: Path) -> None:
    trainer.setup(str(tmp_path))
    model, data = make_model(), shuffled()
    trainer.fit(model, data)
    with pytest.raises(Exception, match="Broken"):
        trainer.fit(model, data, epochs=2, callbacks=[Breaks(7)])
    with pytest.raises(ConfigError, match=r"make it anew; a call that ended has .*trainer\.setup"):
        trainer.fit(model, data, epochs=2)


def test_a_run_that_is_trained_on_is_not_complete(tmp_path: Path) -> None:
    def script(epochs: int) -> keras.Model:
        trainer.setup(str(tmp_path))
        model = make_model()
        trainer.fit(model, **(ARRAYS | {"epochs": epochs}))
        return model

    script(1)
    trainer.close()
    (tmp_path / SUMMARY_FILE).write_text("{}")
    script(1)
    assert (tmp_path / SUMMARY_FILE).exists()
    script(2)
    assert not (tmp_path / SUMMARY_FILE).exists()


def test_a_run_that_cannot_be_restored_is_not_held_on(tmp_path: Path) -> None:
    run = str(tmp_path / "run")
    trainer.setup(run, overrides=SETTINGS)
    trainer.fit(make_model(), **ARRAYS)
    trainer.close()
    for part in (tmp_path / "run").rglob("*.safetensors"):
        part.write_bytes(b"damaged")
    with pytest.raises(CheckpointError, match="start_over"):
        trainer.setup(run)
    trainer.setup(run, overrides=["checkpoint.start_over=true"])
    trainer.fit(make_model(), **ARRAYS)


def test_each_model_that_was_broken_off_is_known(tmp_path: Path) -> None:
    trainer.setup(str(tmp_path))
    one, other = make_model(), make_model()
    for model in (one, other):
        with pytest.raises(Exception, match="Broken"):
            trainer.fit(model, **ARRAYS, callbacks=[Breaks(3)])
    for model in (one, other):
        with pytest.raises(ConfigError, match="the model is no longer as it was"):
            trainer.fit(model, **ARRAYS)


def test_a_run_that_cannot_be_written_to_spoils_no_model(tmp_path: Path, monkeypatch: Any) -> None:
    trainer.setup(str(tmp_path))
    model = make_model()
    with monkeypatch.context() as patch:
        patch.setattr(RunDir, "reopen", lambda _self: fails(StorageError("away")))
        with pytest.raises(StorageError):
            trainer.fit(model, **ARRAYS)
    trainer.fit(model, **ARRAYS)


def fails(error: Exception) -> None:
    raise error


def test_what_is_read_once_is_known_later(tmp_path: Path) -> None:
    trainer.setup(str(tmp_path), overrides=SETTINGS)
    model, pairs, call = make_model(), islice(generator(), 100), {"steps_per_epoch": 4}
    with pytest.raises(Exception, match="Broken"):
        trainer.fit(model, pairs, **call, epochs=3, callbacks=[Breaks(6)])
    with pytest.raises(ConfigError, match="epochs is -1"):
        trainer.fit(model, X, Y, epochs=-1)
    with pytest.raises(ConfigError, match="so make it anew"):
        trainer.fit(model, pairs, **call, epochs=3)


def build(folder: Path, *, is_swapped: bool = False, others: int = 0) -> keras.Model:
    """A model as a cell makes it, which Keras names on from the ones before."""
    trainer.setup(str(folder), overrides=SETTINGS)
    keras.utils.set_random_seed(1)
    sizes = {"wide_1": 8, "wide_2": 8}
    names = reversed(sizes) if is_swapped else sizes
    inner = [keras.layers.Dense(8, "relu", name=name) for name in names]
    noise, last = keras.layers.Dropout(0.3), keras.layers.Dense(2)
    for _ in range(others):
        keras.layers.Dense(1)
    first = keras.layers.Dense(8)
    model = keras.Sequential([keras.Input((4,)), first, *inner, noise, last])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(), loss, metrics=["accuracy"])
    return model


def test_a_model_that_keras_has_named_on_is_the_same(tmp_path: Path) -> None:
    keras.utils.clear_session()
    whole = build(tmp_path / "whole")
    trainer.fit(whole, **ARRAYS, callbacks=[Breaks(100)])
    with pytest.raises(Exception, match="Broken"):
        trainer.fit(build(tmp_path / "cells"), **ARRAYS, callbacks=[Breaks(8)])
    for different in ({"is_swapped": True}, {"others": 1}):
        with pytest.raises(CheckpointError, match=r"another model .*\n(.*\n)+.*clear_session\(\)"):
            trainer.fit(build(tmp_path / "cells", **different), **ARRAYS)
    model = build(tmp_path / "cells")
    assert model.name != whole.name
    trainer.fit(model, **ARRAYS, callbacks=[Breaks(100)])
    assert_equal(whole, model)
    # As after a kernel's restart, which the checkpoint's names come from before.
    keras.utils.clear_session()
    again = build(tmp_path / "cells")
    trainer.fit(again, **ARRAYS)
    assert_equal(whole, again)
