"""What runs on worker 0 alone, and what it must leave as it is."""

from typing import Any

import keras
import pytest

from tests.small_run import run_info
from tests.unit.test_callback_assemble import EARLY, EachEpoch, config_of
from trainer.agreement import Alone
from trainer.callbacks.assemble import choose_callbacks
from trainer.callbacks.chief import guarded, is_chief_only
from trainer.errors import ConfigError
from trainer.stop import StopRequest

CSV = {"name": "csv_logger", "args": {"filename": "l.csv"}}


class Chiefs(keras.callbacks.Callback):
    """Says by its class where it runs, and how often it was built."""

    chief_only = True
    built = 0

    def __init__(self) -> None:
        super().__init__()
        type(self).built += 1


class Acting(keras.callbacks.Callback):
    """Does something to the model in a hook."""

    def __init__(self, act: Any) -> None:
        super().__init__()
        self._act = act

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self._act(self.model)


@pytest.fixture
def model() -> Any:
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.Adam(0.5), "mse")
    model.optimizer.build(model.trainable_variables)
    model.stop_training = False
    return model


def names(*callbacks: dict[str, Any], own: Any = (), **fields: Any) -> list[str]:
    return choose_callbacks(config_of(*callbacks), own, run=run_info(**fields)).names


def test_other_workers_are_without_it_and_do_not_build_it() -> None:
    path, before = {"name": f"{__name__}:Chiefs"}, Chiefs.built
    plain = {"name": f"{EachEpoch.__module__}:EachEpoch", "chief_only": True}
    given = (path, plain, CSV, EARLY)
    assert names(*given, writes=False) == ["EarlyStopping", "History"]
    assert Chiefs.built == before
    assert names(*given) == ["Chiefs", "EachEpoch", "CSVLogger", "EarlyStopping", "History"]
    assert names(own=[Chiefs()], writes=False) == ["History"]


def test_states_have_the_same_numbers_on_all_workers() -> None:
    plain = {"name": f"{EachEpoch.__module__}:EachEpoch"}
    config = config_of(plain | {"chief_only": True}, plain)
    mine, others = (
        choose_callbacks(config, [], run=run_info(writes=writes)).resumable
        for writes in (True, False)
    )
    assert [type(one).__name__ for one in others] == ["History", "EachEpoch"]
    assert len(mine) == 3
    chosen = choose_callbacks(config, [], run=run_info())
    assert chosen.resumable[1] is chosen.all[1]  # the second one of the configuration comes first


@pytest.mark.parametrize("name", ["early_stopping", "reduce_lr_on_plateau", "terminate_on_nan"])
@pytest.mark.parametrize("writes", [True, False])
def test_one_of_keras_that_decides_is_refused_on_all(name: str, writes: bool) -> None:
    with pytest.raises(ConfigError, match="cannot be chief_only"):
        names({"name": name, "chief_only": True}, writes=writes)


def test_a_subclass_of_a_writer_may_do_more() -> None:
    class More(keras.callbacks.CSVLogger):
        pass

    assert is_chief_only(keras.callbacks.CSVLogger)
    assert not is_chief_only(More)


@pytest.mark.parametrize(
    ("act", "said"),
    [
        (lambda m: setattr(m, "stop_training", True), "set stop_training in on_epoch_end"),
        (lambda m: setattr(m.optimizer, "learning_rate", 0.1), "changed learning_rate in"),
        (lambda m: m.optimizer.iterations.assign(7), "changed iteration"),
        (lambda m: m.get_weights(), ""),
    ],
)
def test_what_it_changes_is_undone_and_told(model: Any, act: Any, said: str) -> None:
    agreement = Alone(StopRequest())
    callback = guarded(Acting(act), agreement.object_to)
    callback.set_model(model)
    callback.on_epoch_begin(0)
    callback.on_epoch_end(0, logs={})
    assert agreement.is_objected is bool(said)
    assert said in agreement.objection()
    rate, step = model.optimizer.learning_rate, model.optimizer.iterations
    assert (model.stop_training, float(rate), int(step)) == (False, 0.5, 0)


def test_one_that_does_not_is_called_as_ever(model: Any) -> None:
    seen: list[Any] = []
    callback = guarded(
        keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: seen.append(batch)),
        seen.append,
    )
    hooks = keras.callbacks.CallbackList([callback], model=model)
    hooks.on_train_batch_end(3, {"loss": 1.0})
    assert seen == [3]
