"""Recipe beans: its styles, its phases, and a backbone that has learned from other photos."""

import subprocess
import sys

import numpy as np
import pytest

from tests.faults.harness import ROOT, Run

# To trace a MobileNetV2 whose statistics are synchronized took 90 s beside other work.
pytestmark = pytest.mark.timeout(400)

# Batches of 16 and, at last, of 6 records.
FEW = {
    "metrics.enabled": False,
    "export.formats": [],
    "data.train": "train[:86]",
    "data.validation": "train[86:150]",
    "data.test": "test[:64]",
    "train.epochs": 1,
    "params.image_size": 32,
    "params.alpha": 0.1,
}  # fmt: skip
TAKE = """
import sys
import keras
model = keras.saving.load_model(sys.argv[1], compile=False)
model.get_layer("backbone").save_weights(sys.argv[2])
"""


@pytest.fixture(scope="module")
def trained(zygote, tmp_path_factory):
    """A function: settings -> a complete run of recipe beans on few small photos."""

    def train(**settings):
        run = Run(zygote, tmp_path_factory.mktemp("beans"), FEW, packaged="beans")
        life = run.start(**settings)
        assert life.wait(300) == 0, life.text()
        return run

    return train


@pytest.fixture(scope="module")
def whole(trained):
    """A run of all layers, which the others start from."""
    return trained()


def arrays(run):
    """The model's, by path."""
    found = run.last().arrays
    return {name.split("/", 2)[2]: found[name] for name in found if name.startswith("model/")}


def warm(run, phase, **more):
    """Settings that start from a run."""
    return {"train__start_from": str(run.dir), "params__phase": phase} | more


@pytest.mark.parametrize(
    "style",
    [
        pytest.param({"params__style": "own_parts"}, marks=pytest.mark.long),
        pytest.param({"params__style": "train_step"}, marks=pytest.mark.long),
        pytest.param({"params__loop": "own"}, marks=pytest.mark.long),
    ],
)
def test_a_style_comes_to_the_same_weights(trained, whole, style):
    run = trained(**style)
    assert run.sha256() == whole.sha256()
    found, wanted = run.summary()["history"], whole.summary()["history"]
    assert found == {name: pytest.approx(values, rel=1e-5) for name, values in wanted.items()}


@pytest.mark.long
def test_fine_tuning_keeps_the_statistics_that_the_backbone_came_with(trained, whole):
    run = trained(**warm(whole, "fine_tune", params__learning_rate=1e-4))
    before, after = arrays(whole), arrays(run)
    kept = {path for path in before if np.array_equal(before[path], after[path])}
    statistics = {path for path in before if "/moving_" in path}
    assert len(statistics) == 104
    assert statistics <= kept
    assert "Conv1/kernel" not in kept


# Without dropout there is no seed, and so the models are not equal.
PLAIN = {"params__dropout": 0.0, "train__start_layers": "shared"}


@pytest.mark.long
def test_fine_tuning_on_two_cpus_is_that_on_one(trained, whole):
    one, two = (trained(**warm(whole, "fine_tune", cluster__replicas=n, **PLAIN)) for n in (1, 2))
    for which in ("train", "test"):
        assert two.summary()[which] == pytest.approx(one.summary()[which], rel=1e-3), which


@pytest.mark.long
def test_batch_statistics_are_of_the_records_of_all_replicas(trained, whole):
    # One step alone, of 8 and 7 records: Adam makes whole steps of the rounding of gradients that
    # are zero, as those of a shift before the next normalization.
    more = PLAIN | {"data__train": "train[:15]"}
    one, two = (trained(**warm(whole, "whole", cluster__replicas=n, **more)) for n in (1, 2))
    assert two.summary()["train"] == pytest.approx(one.summary()["train"], rel=1e-5)
    wanted, found = arrays(one), arrays(two)
    statistics = [path for path in wanted if "/moving_" in path]
    assert len(statistics) == 104
    before = arrays(whole)
    for path in statistics:
        scale = np.max(np.abs(wanted[path]))
        assert np.max(np.abs(found[path] - wanted[path])) < 5e-3 * scale, path
        assert not np.array_equal(wanted[path], before[path]), path


@pytest.mark.long
def test_a_head_learns_more_on_a_backbone_that_has_learned(trained, tmp_path):
    more = {
        "data__train": "train[:432]", "data__validation": "train[432:]", "train__epochs": 10,
        "params__image_size": 64, "params__alpha": 0.35, "params__learning_rate": 0.003,
    }  # fmt: skip
    first = trained(export__formats=["keras"], **more)
    file = tmp_path / "backbone.weights.h5"
    model = str(first.dir / "model" / "model.keras")
    taken = subprocess.run([sys.executable, "-c", TAKE, model, str(file)], cwd=ROOT, timeout=120)
    assert taken.returncode == 0
    fresh, again = (
        trained(params__phase="head", params__weights=weights, train__seed=1, **more)
        for weights in (None, str(file))
    )
    (told,) = again.lives[0].events("backbone")
    assert (told["url"], len(told["sha256"])) == (str(file), 64)
    learned, random = (run.summary()["history"]["val_accuracy"][-1] for run in (again, fresh))
    assert learned > random + 0.1
