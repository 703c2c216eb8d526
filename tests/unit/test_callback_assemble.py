"""The callbacks of a run: built from the configuration, in order, with their needs."""

import sys
from pathlib import Path
from typing import Any

import keras
import pytest

from tests.small_run import run_info
from trainer.callbacks.assemble import choose_callbacks
from trainer.callbacks.catalog import make_callback
from trainer.config import RunConfig
from trainer.config.models import CALLBACKS, CallbackConfig
from trainer.errors import ConfigError


class EachStep(keras.callbacks.Callback):
    """Wants the weights of every step."""

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Nothing."""


class EachEpoch(keras.callbacks.Callback):
    """Does not."""

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Nothing."""


class LogReader(EachStep):
    """Says that logs are all that it reads."""

    reads_logs_only = True


def config_of(*callbacks: dict[str, Any]) -> RunConfig:
    """A run with these callbacks."""
    return RunConfig(
        recipe="r", data={"url": "d", "batch_size": 8}, train={"epochs": 1}, callbacks=callbacks
    )


EARLY = {"name": "early_stopping", "args": {"monitor": "loss"}}


def test_order_is_recipe_configuration_history() -> None:
    chosen = choose_callbacks(config_of(EARLY), [EachEpoch()])
    assert [type(c).__name__ for c in chosen.all] == ["EachEpoch", "EarlyStopping", "History"]
    assert chosen.all[-1] is chosen.history


def test_stateless_ones_are_not_resumed() -> None:
    chosen = choose_callbacks(config_of(EARLY, EARLY | {"stateless": True}), [EachEpoch()])
    assert [type(c).__name__ for c in chosen.resumable] == ["History", "EachEpoch", "EarlyStopping"]


@pytest.mark.parametrize(
    ("callback", "every_step"),
    [
        (EachStep(), True),
        (EachEpoch(), False),
        (LogReader(), False),
        (keras.callbacks.EarlyStopping(), False),
        (keras.callbacks.TerminateOnNaN(), False),
        (keras.callbacks.ModelCheckpoint("m.keras"), False),
        (keras.callbacks.ModelCheckpoint("m.keras", save_freq=10), True),
        (keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: None), False),
        (keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: None), True),
    ],
    ids=lambda value: type(value).__name__,
)
def test_who_needs_every_step(callback: Any, every_step: bool) -> None:
    assert choose_callbacks(config_of(), [callback]).is_step_by_step is every_step


def test_two_that_would_write_the_same_files_are_refused(tmp_path: Path) -> None:
    board = {"name": "tensorboard"}
    apart = board | {"args": {"log_dir": str(tmp_path)}}
    assert choose_callbacks(config_of(board, apart), []).all
    with pytest.raises(ConfigError, match="give one of them a log_dir"):
        choose_callbacks(config_of(board, board), [])


@pytest.mark.parametrize("name", ["tensorboard", "keras.callbacks:TensorBoard", None])
def test_tensorboard_without_its_package_is_refused_at_the_start(
    monkeypatch: pytest.MonkeyPatch, name: str | None
) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    own = [] if name else [keras.callbacks.TensorBoard()]
    with pytest.raises(ConfigError, match=r"pip install 'trainer-k8s\[tensorboard\]'"):
        choose_callbacks(config_of(*([{"name": name}] if name else [])), own)


@pytest.mark.parametrize("name", sorted(CALLBACKS))
def test_every_name_of_ours_is_a_callback(name: str) -> None:
    args = {"csv_logger": {"filename": "l.csv"}, "model_checkpoint": {"filepath": "m.keras"}}
    callback = make_callback(CallbackConfig(name=name, args=args.get(name, {})))
    assert isinstance(callback, keras.callbacks.Callback)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"name": "early_stopping", "args": {"patients": 3}}, "early_stopping: .*patients"),
        ({"name": "reduce_lr_on_plateau", "args": {"factor": 2.0}}, "factor >= 1.0"),
        ({"name": "no.such.module:Class"}, "cannot import 'no.such.module'"),
        ({"name": "keras.callbacks:Nothing"}, "has no 'Nothing'"),
    ],
)
def test_what_cannot_be_built_is_refused(config: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        make_callback(CallbackConfig(**config))


class Knowing(EachEpoch):
    """Wants to know of its run; holds nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.runs: list[Any] = []

    def set_run(self, run: Any) -> None:
        self.runs.append(run)


def test_callbacks_of_users_are_told_of_their_run() -> None:
    own, run = Knowing(), run_info(is_resumed=True)
    (*_, configured, _) = choose_callbacks(
        config_of({"name": f"{__name__}:Knowing"}), [own], run=run
    ).all
    assert own.runs == configured.runs == [run]


def test_who_does_not_write_is_without_those_that_only_write() -> None:
    csv = {"name": "csv_logger", "args": {"filename": "l.csv"}}
    names = {
        writes: [
            type(callback).__name__
            for callback in choose_callbacks(
                config_of(csv, EARLY), [Knowing()], run=run_info(writes=writes)
            ).all
        ]
        for writes in (True, False)
    }
    assert names[True] == ["Knowing", "CSVLogger", "EarlyStopping", "History"]
    assert names[False] == ["Knowing", "EarlyStopping", "History"]


@pytest.mark.parametrize("is_resumed", [True, False])
def test_a_log_of_rows_goes_on_where_the_run_does(is_resumed: bool) -> None:
    csv = keras.callbacks.CSVLogger("l.csv")
    choose_callbacks(config_of(), [csv], run=run_info(is_resumed=is_resumed))
    assert csv.append is is_resumed
