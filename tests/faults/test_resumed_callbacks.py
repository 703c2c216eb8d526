"""Keras' callbacks that hold something decide after a kill as they would have without it."""

import h5py
import pytest

from tests.faults.harness import Run, disturbed_and_calm, finish, signal_at

# By these measures an epoch is worse than the one before. So the second is the best for early
# stopping, which ends training after the fifth; the rate is lowered after the second, and not
# before the fifth again.
WORSE = {"monitor": "val_loss", "mode": "max"}
EARLY = WORSE | {"patience": 3, "start_from_epoch": 1, "restore_best_weights": True}
STOPPING = [
    {"name": "early_stopping", "args": EARLY},
    {"name": "csv_logger", "args": {"filename": "log.csv"}},
    *(
        {
            "name": "model_checkpoint",
            "args": {
                "filepath": f"{mode}.weights.h5", "monitor": "val_loss", "mode": mode,
                "save_best_only": True, "save_weights_only": True,
            },
        }
        for mode in ("max", "min")
    ),
]  # fmt: skip
LOWERING = {
    "name": "reduce_lr_on_plateau",
    "args": WORSE | {"patience": 1, "factor": 0.5, "cooldown": 3},
}
SETTINGS = {"train.epochs": 9, "checkpoint.background": False}
# Nine steps an epoch, a checkpoint every four and after each epoch.
KILLS = {
    "inside the fourth epoch": signal_at(31),
    "in its validation": signal_at(11, hook="on_test_batch_end"),
    "after its end": signal_at(4, hook="on_epoch_end"),
}


def kinds():
    """(recipe, callbacks, engine) by name."""
    module = "tests.faults"
    return {
        "own rates": (f"{module}.scheduling_recipe:scheduling", [LOWERING, *STOPPING], "loop"),
        "schedule": (f"{module}.held_recipe:scheduled", STOPPING, "loop"),
        "fit": (f"{module}.scheduling_recipe:scheduling", [LOWERING, *STOPPING], "fit"),
    }


@pytest.fixture(scope="module")
def calm(zygote, tmp_path_factory):
    """A function: kind -> its undisturbed run."""
    runs = {}

    def train(kind):
        if kind not in runs:
            runs[kind] = Run(zygote, tmp_path_factory.mktemp("calm"), settings_of(kind))
            life = runs[kind].train()
            assert life.code == 0, life.text()
        return runs[kind]

    return train


def settings_of(kind):
    recipe, callbacks, engine = kinds()[kind]
    return SETTINGS | {"recipe": recipe, "callbacks": callbacks, "train.engine": engine}


def weights(run, mode):
    """All arrays of the file that a ModelCheckpoint left, by name."""
    found = {}
    with h5py.File(run.folder / f"{mode}.weights.h5") as file:
        file.visititems(
            lambda name, item: (
                found.update({name: item[()].tolist()}) if isinstance(item, h5py.Dataset) else None
            )
        )
    return found


def lasting(run):
    """What its summary says of the training."""
    return {name: run.summary()[name] for name in ("steps", "stopped_early", "history", "test")}


@pytest.mark.parametrize(
    ("kind", "kill"),
    [
        ("own rates", "inside the fourth epoch"),
        pytest.param("schedule", "after its end", marks=pytest.mark.long),
        pytest.param("own rates", "in its validation", marks=pytest.mark.long),
        pytest.param("own rates", "after its end", marks=pytest.mark.long),
        pytest.param("schedule", "inside the fourth epoch", marks=pytest.mark.long),
        pytest.param("fit", "inside the fourth epoch", marks=pytest.mark.long),
    ],
)
def test_callbacks_decide_as_in_the_undisturbed_run(zygote, tmp_path, calm, kind, kill):
    run, calm = Run(zygote, tmp_path, settings_of(kind)), calm(kind)
    life = run.train(callbacks=[*run.settings["callbacks"], KILLS[kill]])
    assert life.code == -9, life.text()
    held = run.last().manifest.state["callbacks"]
    assert held["EarlyStopping-0"]["wait"] == 1
    assert held.get("ReduceLROnPlateau-0", {}).get("cooldown_counter", 2) == 2
    finish(run, calm)
    assert lasting(run) == lasting(calm)
    assert lasting(run)["stopped_early"]
    assert (run.folder / "log.csv").read_text() == (calm.folder / "log.csv").read_text()
    for mode in ("max", "min"):
        assert weights(run, mode) == weights(calm, mode)


AVERAGED = {"recipe": "tests.faults.averaged_recipe:averaged"}


@pytest.mark.parametrize(
    ("swap_on_epoch", "disturbance"),
    [
        (False, signal_at(4, "SIGTERM", hook="on_test_batch_end")),
        pytest.param(
            True, signal_at(4, "SIGTERM", hook="on_test_batch_end"), marks=pytest.mark.long
        ),
        pytest.param(True, signal_at(12), marks=pytest.mark.long),
    ],
)
def test_averages_that_are_swapped_in_for_a_pass_are_no_weights(
    zygote, tmp_path, swap_on_epoch, disturbance
):
    swap = {"name": "keras.callbacks:SwapEMAWeights", "args": {"swap_on_epoch": swap_on_epoch}}
    settings = SETTINGS | AVERAGED | {"train.epochs": 3, "callbacks": [swap]}
    run, calm = disturbed_and_calm(zygote, tmp_path, settings)
    life = run.train(callbacks=[swap, disturbance])
    assert life.code in (-9, 75), life.text()
    assert len(run.fired()) == 1
    finish(run, calm)


def test_the_undisturbed_run_decides_something(calm):
    history, run = calm("own rates").summary()["history"], calm("own rates")
    assert len(history["loss"]) == 5
    assert history["learning_rate"] == pytest.approx(
        [0.01, 0.01 * 0.9, 0.01 * 0.9**2 / 2, 0.01 * 0.9**3 / 2, 0.01 * 0.9**4 / 2]
    )
    assert len((run.folder / "log.csv").read_text().splitlines()) == 6
    assert weights(run, "max") != weights(run, "min")
