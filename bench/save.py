"""How long a save in the background keeps training from going on: 100 MB of state.

Compared with the same save made while training waits, and with one plain copy of the same
arrays into memory that is already there.
"""

import tempfile
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np
from prometheus_client import CollectorRegistry

from bench.pairs import (
    Result,
    median_ratio,
    milliseconds,
    noise_floor,
    run_alone,
    take_turns,
    timed,
)
from trainer.agreement import Alone
from trainer.checkpoint.boundary import Captured, Checkpoints
from trainer.checkpoint.format import Manifest
from trainer.checkpoint.position import Position, Schedule
from trainer.checkpoint.saver import Saver
from trainer.checkpoint.state import ModelState
from trainer.checkpoint.store import CheckpointStore
from trainer.metrics import Metrics
from trainer.recipes.catalog import load_run
from trainer.stop import StopRequest
from trainer.storage import open_storage

STATE_BYTES = 100e6
LAYERS = 8
AIM_SYNC, AIM_COPY = 0.15, 1.5
ROUNDS, DELAY_ROUNDS = 15, 7
# For longer than a save takes.
STEPS, STEP_ROWS = 20, 64


def measure() -> list[Result]:
    """Both ratios, and how much later the loop is after a fixed number of steps."""
    model = model_of(STATE_BYTES)
    variables = [*model.variables, *model.optimizer.variables]
    state = ModelState(model)
    with tempfile.TemporaryDirectory(prefix="bench-save-") as folder:
        background = Saves(state, f"{folder}/background", in_background=True)
        sync = Saves(state, f"{folder}/sync", in_background=False)
        # The variables' own memory, which the snapshot reads, too.
        seconds = _blocked(background, sync, [np.asarray(v.value) for v in variables])
        delay = _delay(background, _train(model))
    size = sum(v.value.dtype.size * v.value.shape.num_elements() for v in variables)
    noise = noise_floor(seconds["background"], seconds["background again"])
    blocked = {
        "state": f"{size / 1e6:.0f} MB in {len(variables)} arrays",
        "blocked": f"{milliseconds(seconds['background'])} ms",
    }
    return [
        Result(
            f"save_blocked_vs_{other}",
            median_ratio(seconds["background"], seconds[other]),
            noise,
            aim,
            "lower",
            blocked | {other: f"{milliseconds(seconds[other])} ms"} | more,
        )
        for other, aim, more in (("sync", AIM_SYNC, delay), ("copy", AIM_COPY, {}))
    ]


def _blocked(background: "Saves", sync: "Saves", arrays: list[Any]) -> dict[str, list[float]]:
    copies = [array.copy() for array in arrays]

    def copy() -> None:
        for array, into in zip(arrays, copies, strict=True):
            np.copyto(into, array)

    return take_turns(
        {
            "background": background.blocked,
            "background again": background.blocked,
            "sync": sync.blocked,
            "copy": lambda: timed(copy),
        },
        rounds=ROUNDS, warm_ups=2,
    )  # fmt: skip


def _delay(saves: "Saves", train: Callable[[], Any]) -> dict[str, str]:
    """How much longer steps take from the beginning of a save on: blocked and slowed down."""

    def turn(*, with_save: bool) -> float:
        saves.settle()
        return timed(lambda: begin(with_save=with_save))

    def begin(*, with_save: bool) -> None:
        if with_save:
            saves.save()
        train()

    seconds = take_turns(
        {"with": lambda: turn(with_save=True), "without": lambda: turn(with_save=False)},
        rounds=DELAY_ROUNDS, warm_ups=1,
    )  # fmt: skip
    saves.settle()
    pairs = zip(seconds["with"], seconds["without"], strict=True)
    delay = median(with_save - without for with_save, without in pairs)
    without = milliseconds(seconds["without"])
    return {f"delay of {STEPS} steps": f"{1000 * delay:.0f} ms on {without:.0f} ms"}


class Saves:
    """Saves of one model by `Checkpoints`, as the loop asks for them."""

    def __init__(self, state: ModelState, url: str, *, in_background: bool) -> None:
        changes = (f"checkpoint.background={in_background}", "checkpoint.keep_last=1")
        config, _recipe, _params = load_run("fashion_mnist", changes)
        metrics = Metrics(CollectorRegistry())
        self.store = CheckpointStore(open_storage(url))
        self._saver = Saver(self.store, config.checkpoint, metrics, on_saved=self._on_saved)
        self._checkpoints = Checkpoints(
            config, capture=lambda **_whole: Captured(state.snapshot(), {}), saver=self._saver,
            schedule=Schedule(epochs=1, steps_per_epoch=10**6), agreement=Alone(StopRequest()),
            metrics=metrics,
        )  # fmt: skip
        self._step = 0
        self._saved = 0.0

    def save(self) -> None:
        """One save more; waits for the one before."""
        self._step += 1
        self._checkpoints.save(Position(step=self._step))

    def settle(self) -> None:
        """Wait for the save in flight."""
        self._saver.wait()

    def blocked(self) -> float:
        """Seconds until training may go on, with no save before in flight."""
        self.settle()
        return timed(self.save)

    def committed(self) -> tuple[float, float]:
        """The same, and seconds until the checkpoint is durable."""
        self.settle()
        started = time.perf_counter()
        blocked = timed(self.save)
        self.settle()
        return blocked, self._saved - started

    def _on_saved(self, _manifest: Manifest, _seconds: float) -> None:
        self._saved = time.perf_counter()


def model_of(num_bytes: float) -> Any:
    """Dense layers whose weights and Adam slots are so large."""
    import keras

    width = int((num_bytes / 4 / 3 / LAYERS) ** 0.5)
    layers = [keras.layers.Dense(width, activation="relu") for _ in range(LAYERS)]
    model = keras.Sequential([keras.Input((width,)), *layers])
    model.compile(optimizer=keras.optimizers.Adam(1e-3), loss="mse", jit_compile=False)
    model.optimizer.build(model.trainable_variables)
    return model


def _train(model: Any) -> Callable[[], Any]:
    import tensorflow as tf

    x = tf.zeros((STEP_ROWS, model.input_shape[1]))

    def steps() -> Any:
        for _ in tf.range(STEPS):
            model.train_step((x, x))
        return model.optimizer.iterations.value

    function = tf.function(steps)
    return lambda: function().numpy()


MEASURES = {"save_blocked_vs_sync": measure, "save_blocked_vs_copy": measure}

if __name__ == "__main__":
    run_alone(MEASURES, about=__doc__)
