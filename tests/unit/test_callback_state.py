"""Callbacks resume where they were: what they hold is saved and put back."""

import json
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from tests.small_storage import MemoryStorage
from tests.small_training import NoBoundary, Run, compiled, cpus, dataset_of, same_weights
from trainer.callbacks.state import _KERAS_STATE, CallbackStates
from trainer.checkpoint.position import Position
from trainer.checkpoint.state import ModelState
from trainer.checkpoint.store import CheckpointStore
from trainer.errors import CheckpointError, ConfigError, StoppedError

# Keras' convert_to_numpy, as ReduceLROnPlateau uses it, under numpy 2.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


class Averages(keras.callbacks.Callback):
    """A user's callback: an array, and a number that changes training."""

    def __init__(self) -> None:
        super().__init__()
        self.sums, self.calls = np.zeros(3), 0

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.sums += [logs["loss"], logs["accuracy"], epoch]
        self.calls += 1
        self.model.optimizer.learning_rate.assign(0.05 / (1 + self.calls * self.sums[0]))

    def get_state(self) -> dict[str, Any]:
        return {"sums": self.sums, "calls": self.calls}

    def set_state(self, state: dict[str, Any]) -> None:
        self.sums, self.calls = state["sums"], state["calls"]


class Stateful(keras.callbacks.Callback):
    """A callback that gives and takes whatever it is told to."""

    def __init__(self, state: Any = None) -> None:
        super().__init__()
        self.state = state

    def get_state(self) -> Any:
        return self.state

    def set_state(self, state: Any) -> None:
        self.state = state


class Forgetful(keras.callbacks.Callback):
    """Without get_state and set_state."""


# ---- capture and restore ---------------------------------------------------------------------


def round_trip(state: Any) -> Any:
    """The state of a callback after a checkpoint."""
    states, arrays = CallbackStates([Stateful(state)]).capture()
    fresh = Stateful()
    CallbackStates([fresh]).restore(json.loads(json.dumps(states)), arrays)
    return fresh.state


@pytest.mark.parametrize(
    "state",
    [
        {"a": 1, "b": 2.5, "c": None, "d": True, "e": "ü", "f": [1, [2, {"g": 3}]]},
        {"best": float("inf"), "worst": float("-inf")},
        {"a": {"b": {}}, "c": []},
    ],
)
def test_plain_values_come_back(state: Any) -> None:
    assert round_trip(state) == state


@pytest.mark.parametrize("array", [np.arange(3), np.zeros((0, 2)), np.ones((2, 2), np.float16)])
def test_arrays_come_back_wherever_they_are(array: Any) -> None:
    found = round_trip({"top": array, "list": [1, {"deep": array}]})
    for back in (found["top"], found["list"][1]["deep"]):
        assert (back.dtype, back.tolist()) == (array.dtype, array.tolist())


def test_numpy_scalars_become_numbers() -> None:
    found = round_trip({"a": np.float32(0.5), "b": np.int64(3), "c": np.bool_(1)})
    assert found == {"a": 0.5, "b": 3, "c": True}


def test_a_capture_is_a_copy() -> None:
    array = np.zeros(2)
    _, arrays = CallbackStates([Stateful({"a": array})]).capture()
    array += 1
    assert np.all(arrays["callback/Stateful-0/a"] == 0)


@pytest.mark.parametrize(
    "value",
    [object(), {1, 2}, b"raw", np.asarray(["text"])],
    ids=["object", "set", "bytes", "texts"],
)
def test_other_values_are_refused_with_their_place(value: Any) -> None:
    with pytest.raises(
        ConfigError, match=r"holds a .* at callback/Stateful-0/deep/0: its get_state"
    ):
        CallbackStates([Stateful({"deep": [value]})]).capture()


def test_slashes_in_keys_keep_arrays_apart() -> None:
    one, two = np.array([1, 2]), np.array([3, 4])
    found = round_trip({"a/b": one, "a": {"b": two}, "a~1b": two})
    assert [found["a/b"][0], found["a"]["b"][0], found["a~1b"][0]] == [1, 3, 3]


@pytest.mark.parametrize("key", [0, "__array__"])
def test_keys_that_would_come_back_as_others_are_refused(key: Any) -> None:
    with pytest.raises(ConfigError, match=rf"the key {key!r} at callback/Stateful-0/deep: keys"):
        CallbackStates([Stateful({"deep": {key: 1}})]).capture()


@pytest.mark.parametrize("state", [None, [1, 2]])
def test_a_state_that_is_no_dictionary_is_refused(state: Any) -> None:
    with pytest.raises(ConfigError, match=r"callback Stateful-0 is a \w+: its get_state must"):
        CallbackStates([Stateful(state)]).capture()


def test_two_callbacks_of_a_class_are_told_apart() -> None:
    states, _ = CallbackStates([Stateful({"n": 1}), Averages(), Stateful({"n": 2})]).capture()
    fresh = [Stateful(), Averages(), Stateful()]
    CallbackStates(fresh).restore(states, {"callback/Averages-0/sums": np.ones(3)})
    assert [fresh[0].state, fresh[2].state] == [{"n": 1}, {"n": 2}]


def test_callbacks_that_are_new_to_a_run_are_told() -> None:
    states, arrays = CallbackStates([Stateful({"n": 1})]).capture()
    found = CallbackStates([Stateful(), Averages()]).restore(states, arrays)
    assert found == ["Averages-0"]


def test_a_state_that_cannot_be_put_back_is_named() -> None:
    states = {"Averages-0": {"sums": {"__array__": "callback/lost"}}}
    with pytest.raises(CheckpointError, match="state of callback Averages-0 cannot be put back"):
        CallbackStates([Averages()]).restore(states, {})


# ---- who is admitted -------------------------------------------------------------------------


def test_a_callback_without_state_is_refused() -> None:
    forgetful = Forgetful()
    forgetful.seen = 0
    with pytest.raises(ConfigError, match=r"Forgetful has no get_state .*'stateless: true'"):
        CallbackStates([forgetful])


def test_one_that_holds_nothing_needs_no_state() -> None:
    assert CallbackStates([Forgetful()]).capture() == ({}, {})
    says_so = Forgetful()
    says_so.seen, says_so.stateless = 0, True
    assert CallbackStates([says_so]).capture() == ({}, {})


def test_a_subclass_of_a_known_one_is_refused() -> None:
    class Mine(keras.callbacks.EarlyStopping):
        """May hold more than its parent."""

    with pytest.raises(ConfigError, match="Mine has no get_state"):
        CallbackStates([Mine()])


def test_backup_and_restore_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="BackupAndRestore replays epochs"):
        CallbackStates([keras.callbacks.BackupAndRestore(str(tmp_path / "b"))])


def known(folder: Path) -> list[Any]:
    """Keras' callbacks that resume without help."""
    return [
        keras.callbacks.History(),
        keras.callbacks.EarlyStopping(),
        keras.callbacks.ReduceLROnPlateau(),
        keras.callbacks.ModelCheckpoint(str(folder / "m.keras")),
        keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate),
        keras.callbacks.SwapEMAWeights(),
        keras.callbacks.TerminateOnNaN(),
        keras.callbacks.CSVLogger(str(folder / "log.csv")),
        keras.callbacks.TensorBoard(str(folder / "tb")),
        keras.callbacks.LambdaCallback(),
    ]


def test_attributes_that_are_saved_exist_in_this_keras(tmp_path: Path) -> None:
    """A new Keras that renames one would let runs differ in silence."""
    callbacks = {type(callback): callback for callback in known(tmp_path)}
    assert callbacks.keys() == _KERAS_STATE.keys()
    for kind, callback in callbacks.items():
        if kind is not keras.callbacks.TensorBoard:
            callback.on_train_begin()
        assert all(hasattr(callback, name) for name in _KERAS_STATE[kind]), kind
    callbacks[keras.callbacks.CSVLogger].on_train_end()


# ---- resumed equals undisturbed --------------------------------------------------------------


def callbacks_of(folder: Path) -> list[Any]:
    """Callbacks whose decisions depend on all epochs before."""
    return [
        Averages(),
        keras.callbacks.ReduceLROnPlateau(
            "val_accuracy", mode="max", factor=0.5, patience=2, min_delta=0.05, cooldown=1
        ),
        keras.callbacks.EarlyStopping(
            "val_accuracy", mode="max", min_delta=0.05, patience=3, restore_best_weights=True
        ),
        keras.callbacks.ModelCheckpoint(
            str(folder / "best.weights.h5"), "val_loss", save_best_only=True, mode="min",
            save_weights_only=True,
        ),
        keras.callbacks.History(),
    ]  # fmt: skip


class Interrupting(NoBoundary):
    """Saves everything at one position and ends the run there."""

    def __init__(self, at: Position, model: Any, states: CallbackStates) -> None:
        self.at, self.model, self.states = at, model, states
        self.storage = MemoryStorage()

    def steps_until_save(self, step: int) -> int | None:
        return self.at.step - step if step < self.at.step else None

    def between_calls(self, position: Position) -> None:
        if (position.step, position.phase) != (self.at.step, self.at.phase):
            return
        states, arrays = self.states.capture()
        state = {"position": position.to_json(), "callbacks": states}
        CheckpointStore(self.storage).save(
            position.step, ModelState(self.model).snapshot() | arrays, state=state, metrics={}
        )
        raise StoppedError("saved")

    after_epoch = between_calls


def decisions(callbacks: list[Any]) -> list[Any]:
    """What the callbacks came to, comparable."""
    averages, plateau, early, best, history = callbacks
    return [
        history.history, history.epoch, averages.sums.tolist(), averages.calls, plateau.wait,
        plateau.best, plateau.cooldown_counter, early.wait, early.best, early.best_epoch,
        early.stopped_epoch, best.best,
    ]  # fmt: skip


def train(engine: Any, url: str, folder: Path, interrupt: Position | None = None) -> Any:
    """(model, callbacks, end) of a run, interrupted and resumed by new objects if asked."""
    folder.mkdir(exist_ok=True)
    run = Run(dataset_of(url, eval_batch_size=4), epochs=9, validation="test")
    model, callbacks = compiled(cpus(), dropout=0.3), callbacks_of(folder)
    if interrupt is not None:
        boundary = Interrupting(interrupt, model, CallbackStates(callbacks))
        run.boundary = boundary
        with pytest.raises(StoppedError):
            engine(run, model, cpus(), callbacks)
        (found,) = CheckpointStore(boundary.storage).all()
        saved = CheckpointStore(boundary.storage).read(found.name)
        model, callbacks = compiled(cpus(), dropout=0.3, seed=99), callbacks_of(folder)
        run.boundary = NoBoundary()
        run.position = Position.from_json(saved.manifest.state["position"])

        def put_back() -> None:
            ModelState(model).restore(saved.arrays)
            CallbackStates(callbacks).restore(saved.manifest.state["callbacks"], saved.arrays)

        run.put_back = put_back
    end = engine(run, model, cpus(), callbacks)
    return model, callbacks, end


@pytest.fixture(scope="module")
def undisturbed(vectors: str, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("best")
    return *train(Run.loop, vectors, folder), folder


def test_the_undisturbed_run_decides_something(undisturbed: Any) -> None:
    _, (_, _, early, _, history), end, _ = undisturbed
    assert end.stop_training
    assert 0 < early.best_epoch < early.stopped_epoch == end.step // 4 - 1 > 3
    assert len(set(history.history["learning_rate"])) > 2


def best_kernel(model: Any, folder: Path) -> Any:
    """A weight of the file that ModelCheckpoint left; the model takes it over."""
    model.load_weights(folder / "best.weights.h5")
    return np.asarray(model.variables[0])


@pytest.mark.parametrize(
    ("engine", "at"),
    [
        # After step 16 both callbacks wait, after step 20 one cools down.
        (Run.loop, Position(18)),
        pytest.param(Run.loop, Position(16), marks=pytest.mark.long),
        (Run.loop, Position(16, "validate")),
        pytest.param(Run.fit, Position(20), marks=pytest.mark.long),
    ],
    ids=["in epoch", "after epoch", "in validation", "fit"],
)
def test_resumed_is_undisturbed(
    engine: Any, at: Position, vectors: str, tmp_path: Path, undisturbed: Any
) -> None:
    model, callbacks, end = train(engine, vectors, tmp_path, at)
    assert same_weights(model, undisturbed[0])
    assert decisions(callbacks) == decisions(undisturbed[1])
    assert (end.step, end.stop_training) == (undisturbed[2].step, True)
    assert np.array_equal(*(best_kernel(model, folder) for folder in (tmp_path, undisturbed[3])))
