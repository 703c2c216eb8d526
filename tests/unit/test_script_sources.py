"""Data of users' scripts: another life, which makes fewer of the passes, sees the same batches."""

import errno
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from signal import SIGINT, raise_signal
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import trainer
from trainer.errors import ConfigError, TrainerError

pytestmark = pytest.mark.usefixtures("given_back")

RECORDS, BATCH, STEPS = 22, 5, 5
X = np.arange(RECORDS, dtype="float32")[:, np.newaxis]


class BreakError(Exception):
    """What ends a life of the script."""


class Seen(keras.callbacks.Callback):
    """The logs of all batches and passes; breaks training off at the end of an epoch."""

    def __init__(self, breaks_after: int | None = None) -> None:
        super().__init__()
        self.logs: list[Any] = []
        self._left = breaks_after

    def get_state(self) -> dict[str, Any]:
        return {}

    def set_state(self, state: dict[str, Any]) -> None:
        pass

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.logs.append(logs)

    def on_test_batch_end(self, batch: int, logs: Any = None) -> None:
        self.logs.append(logs)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        if self._left == 0:
            raise BreakError
        if self._left is not None:
            self._left -= 1


class Tells(keras.Model):
    """Logs which records a batch has, in their order; learns nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = keras.layers.Dense(1)

    def call(self, x: Any) -> Any:
        return self.dense(x)

    def train_step(self, data: Any) -> dict[str, Any]:
        return self.test_step(data)

    def test_step(self, data: Any) -> dict[str, Any]:
        x = data[:, 0]
        places = tf.range(1, tf.size(x) + 1)
        return {"order": tf.reduce_sum(x * tf.cast(places, tf.float32))}


class Shuffles(keras.utils.PyDataset):
    """In an order of its own, another in each pass."""

    def __init__(self) -> None:
        super().__init__()
        self.rng = np.random.default_rng(5)
        self.rows = np.arange(RECORDS)

    def __len__(self) -> int:
        return STEPS

    def __getitem__(self, number: int) -> Any:
        return X[self.rows[number * BATCH : (number + 1) * BATCH]]

    def on_epoch_end(self) -> None:
        self.rng.shuffle(self.rows)


class Loader:
    """Makes one batch after the other, in an order that it draws when a pass begins and ends."""

    def __init__(self) -> None:
        self.rng = np.random.default_rng(5)

    def __len__(self) -> int:
        return STEPS

    def __iter__(self) -> Iterator[Any]:
        rows = self.rng.permutation(RECORDS)
        for number in range(STEPS):
            yield X[rows[number * BATCH : (number + 1) * BATCH]]
        self.rng.random()


def shuffled() -> tf.data.Dataset:
    return tf.data.Dataset.from_tensor_slices(X).shuffle(RECORDS, seed=4).batch(BATCH)


def drawn() -> tf.data.Dataset:
    """Of Python's code, which draws an order in each pass."""
    spec = tf.TensorSpec([None, 1], tf.float32)
    loader = Loader()
    batches = tf.data.Dataset.from_generator(lambda: iter(loader), output_signature=spec)
    return batches.apply(tf.data.experimental.assert_cardinality(STEPS))


DATA = {
    "shuffle": shuffled,
    "cache of a shuffle": lambda: shuffled().cache(),
    "shuffle of a cache": lambda: shuffled().unbatch().cache().shuffle(9, seed=2).batch(BATCH),
    "py_dataset": Shuffles,
    "loader": Loader,
    "drawn": drawn,
    "repeated": lambda: shuffled().repeat(2),
}

RARER = ("shuffle", "cache of a shuffle", "loader", "drawn", "repeated")
# Each call of fit has its own.
MADE_ANEW = ("loader", "drawn", "repeated")


def live(folder: Path, name: str, breaks_in: int | None = None) -> list[Any]:
    """A life of a script that trains twice on the same objects: what each call saw.

    It ends after two epochs of a call, if so told.
    """
    trainer.setup(str(folder))
    keras.utils.clear_session()
    keras.utils.set_random_seed(1)
    data, held_out, model = DATA[name](), DATA[name](), Tells()
    if name in MADE_ANEW:
        held_out = tf.data.Dataset.from_tensor_slices(X).batch(BATCH)
    model.compile("sgd")
    seen = [Seen(2 if call == breaks_in else None) for call in range(2)]
    for callback in seen:
        if name in MADE_ANEW:  # whose state would go on by what was read ahead
            data = DATA[name]()
        with suppress(TrainerError):  # of BreakError
            trainer.fit(
                model, data, epochs=3, validation_data=held_out, shuffle=False,
                callbacks=[callback],
            )  # fmt: skip
            continue
        break
    return [callback.logs for callback in seen]


@pytest.mark.parametrize(
    "name",
    [
        "shuffle of a cache",
        *(pytest.param(name, marks=pytest.mark.long) for name in ("py_dataset", *RARER)),
    ],
)
def test_another_life_sees_the_same_batches(name: str, tmp_path: Path) -> None:
    epoch = (3 if name == "repeated" else 2) * STEPS
    whole = live(tmp_path / "whole", name)
    assert list(map(len, whole)) == [3 * epoch, 3 * epoch]
    assert live(tmp_path / "broken", name, breaks_in=0) == [whole[0][: 2 * epoch], []]
    assert live(tmp_path / "broken", name, breaks_in=1) == [
        whole[0][2 * epoch :],
        whole[1][: 2 * epoch],
    ]
    assert live(tmp_path / "broken", name) == [[], whole[1][2 * epoch :]]


class Endless:
    """Its own iterator, which draws each batch."""

    def __init__(self) -> None:
        self.rng = np.random.default_rng(5)

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        return X[self.rng.choice(RECORDS, BATCH)]


# name -> (data to validate on, its steps)
HELD_OUT: dict[str, tuple[Callable[[], Any], int | None]] = {
    "shuffle": (shuffled, 2),
    "iterator": (Endless, 3),
    "one step": (Endless, 1),
    "more than a pass": (shuffled, 7),
    "endless": (lambda: shuffled().repeat(), 7),
    "loader": (Loader, None),
    "loader, some steps": (Loader, 3),
    "drawn": (drawn, None),
    "repeated": (lambda: shuffled().repeat(2), None),
    "repeated, some steps": (lambda: shuffled().repeat(3), 7),
    "joined": (lambda: shuffled().concatenate(shuffled()), None),
}
OFTEN = ("one step", "loader")


def breaks_at(moment: str) -> keras.callbacks.Callback:
    """Ends a life at the start of its fifth epoch, or in its second validation pass."""
    passes = iter(range(10))

    def begin_pass(_logs: Any) -> None:
        if moment == "pass" and next(passes) == 1:
            raise_signal(SIGINT)

    def begin_epoch(epoch: int, _logs: Any) -> None:
        if moment == "epoch" and epoch == 4:
            raise BreakError

    return keras.callbacks.LambdaCallback(on_test_begin=begin_pass, on_epoch_begin=begin_epoch)


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n in OFTEN else pytest.mark.long) for n in HELD_OUT]
)
@pytest.mark.parametrize("every", [1, pytest.param(2, marks=pytest.mark.long)])
def test_another_life_validates_on_the_same_batches(name: str, every: int, tmp_path: Path) -> None:
    def live(folder: Path, moment: str = "never") -> list[Any]:
        trainer.setup(str(folder), overrides=["checkpoint.every_steps=1"])
        keras.utils.clear_session()
        keras.utils.set_random_seed(1)
        model, (make, steps), seen = Tells(), HELD_OUT[name], Seen()
        model.compile("sgd")
        with suppress(TrainerError, KeyboardInterrupt):
            trainer.fit(
                model, X, batch_size=BATCH, epochs=5, callbacks=[seen, breaks_at(moment)],
                validation_data=make(), validation_steps=steps, validation_freq=every,
            )  # fmt: skip
        return seen.logs

    whole = live(tmp_path / "whole")
    for moment in ("epoch", "pass"):
        assert live(tmp_path / moment, moment) != whole
        again = live(tmp_path / moment)
        assert again
        assert again == whole[-len(again) :], moment


def test_a_first_epoch_of_another_number_begins_with_the_first_batch(tmp_path: Path) -> None:
    def seen(folder: Path, first: int) -> list[Any]:
        trainer.setup(str(folder))
        keras.utils.clear_session()
        keras.utils.set_random_seed(1)
        model, found = Tells(), Seen()
        model.compile("sgd")
        batches = (X[number : number + BATCH] for number in range(6))
        trainer.fit(
            model, batches, steps_per_epoch=3, initial_epoch=first, epochs=first + 2,
            callbacks=[found],
        )  # fmt: skip
        return found.logs

    first = seen(tmp_path / "first", 0)
    assert len(first) == 6
    assert seen(tmp_path / "later", 4) == first


def test_pictures_of_what_is_read_in_order_are_refused(tmp_path: Path) -> None:
    pictures = ["callbacks=[{name: confusion_matrix}]"]
    trainer.setup(str(tmp_path), overrides=pictures)
    model = Tells()
    model.compile("sgd")
    with pytest.raises(ConfigError, match="cannot be looked at beside training"):
        trainer.fit(model, X, validation_data=shuffled())


def test_another_call_needs_an_iterator_of_its_own(tmp_path: Path) -> None:
    trainer.setup(str(tmp_path))
    model = Tells()
    model.compile("sgd")
    data = Endless()
    trainer.fit(model, data, steps_per_epoch=2)
    with pytest.raises(ConfigError, match=r"Endless was read by an earlier call .* for each call"):
        trainer.fit(model, data, steps_per_epoch=2)


def by_tensorflow(batches: Callable[[], Iterator[Any]]) -> tf.data.Dataset:
    spec = tf.TensorSpec((None, 1), tf.float32)
    return tf.data.Dataset.from_generator(batches, output_signature=spec)


@pytest.mark.parametrize("of", [None, pytest.param(by_tensorflow, marks=pytest.mark.long)])
@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ConnectionError("away"), TrainerError),
        (OSError(errno.EIO, "disk"), TrainerError),
        (KeyError("x"), ConfigError),
    ],
    ids=lambda value: type(value).__name__ + str(getattr(value, "errno", "") or ""),
)
def test_what_may_go_well_another_time_is_no_wrong_usage(
    error: Exception, kind: type[Exception], of: Any, tmp_path: Path
) -> None:
    def batches() -> Iterator[Any]:
        yield X[:BATCH]
        yield X[:BATCH]
        raise error

    trainer.setup(str(tmp_path))
    model = Tells()
    model.compile("sgd")
    with pytest.raises(TrainerError, match=r"x of trainer\.fit raised") as raised:
        trainer.fit(model, batches() if of is None else of(batches), steps_per_epoch=4)
    assert type(raised.value) is kind


class Draws(Tells):
    """Draws what nobody saves."""

    def train_step(self, data: Any) -> dict[str, Any]:
        return {"drawn": tf.reduce_mean(tf.random.uniform(tf.shape(data)))}


def test_a_step_that_draws_what_nobody_saves_is_refused(tmp_path: Path) -> None:
    trainer.setup(str(tmp_path))
    keras.utils.set_random_seed(1)
    model = Draws()
    model.compile("sgd")
    with pytest.raises(ConfigError, match=r"draws by RandomUniform from a state .*SeedGenerator"):
        trainer.fit(model, X)
