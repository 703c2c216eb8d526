"""Keras on JAX; `make test-torch` runs the same tests on PyTorch, by TEST_BACKEND.

A process has one backend, so the other's trainers are forked from a zygote of their own.
"""

import os
import shutil
from dataclasses import replace

import pytest

from tests.faults.harness import Run, Zygote, finish, signal_at
from tests.faults.test_trained_model import OF_A_POD, call
from trainer.recipes.catalog import load_plain, recipe_facts

BACKEND = os.environ.get("TEST_BACKEND", "jax")
QUIET = {"metrics.enabled": False}
# Four steps of 64 records and one of 44; as few other sizes as can be, for each is compiled anew.
FEW = QUIET | {
    "data.train": "train[:300]", "data.validation": "train[300:364]", "data.test": "test[:64]",
    "data.batch_size": 64, "train.epochs": 2, "checkpoint.every_steps": 2,
    "checkpoint.background": False,
}  # fmt: skip
NO_EXPORT = {"export.formats": []}
STEPS = 10
# No noise, which each backend draws in its own way; ten steps an epoch, and the step our own.
CALM = FEW | NO_EXPORT | {
    "params.style": "own_loss", "params.dropout": 0.0, "train.epochs": 1,
    "data.batch_size": 32, "data.train": "train[:320]",
    "callbacks": [], "export.weights": "last", "checkpoint.best": None,
    "checkpoint.every_steps": STEPS,
}  # fmt: skip


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    # What XLA compiles takes most of such short lives, and is the same in most of them.
    process = Zygote(
        KERAS_BACKEND=BACKEND,
        JAX_COMPILATION_CACHE_DIR=str(tmp_path_factory.mktemp("compiled")),
        JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS="0",
        JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES="-1",
        XLA_FLAGS="--xla_backend_optimization_level=0",
    )
    yield process
    process.close()


@pytest.fixture(scope="module")
def styles(other, tmp_path_factory):
    """A short, complete run of each style of mnist's step."""
    runs = {}
    for style in ("compile", "own_loss", "compute_loss"):
        settings = FEW | NO_EXPORT | {"params.style": style, "params.dropout": 0.0}
        runs[style] = Run(other, tmp_path_factory.mktemp(style), settings, packaged="mnist")
        life = runs[style].train()
        assert life.code == 0, life.text()
    return runs


def run_in(folder, zygote, settings, packaged="mnist"):
    folder.mkdir()
    return Run(zygote, folder, settings, packaged=packaged)


@pytest.mark.long
def test_it_is_killed_and_resumed_to_the_same_bits(other, tmp_path):
    calm, run = (run_in(tmp_path / name, other, FEW) for name in ("calm", "disturbed"))
    assert calm.train().code == 0, calm.lives[0].text()
    callbacks = [item.model_dump() for item in load_plain("mnist").callbacks]
    life = run.train(callbacks=[*callbacks, signal_at(8)])
    assert life.code == -9, life.text()
    finish(run, calm)
    written = [file.rpartition("/")[2] for file in run.summary()["model"]]
    left_out = [event["left_out"] for event in run.lives[-1].events("export")]
    assert (written, left_out) == (["model.keras"], [["saved_model"]])
    assert run.summary()["versions"]["backend"].startswith(f"{BACKEND} ")


@pytest.mark.long
def test_evaluate_and_export_give_the_same_model(styles, zygote, tmp_path):
    run = styles["own_loss"]
    code, found = call(run, "evaluate", run.dir, "--checkpoint", "best", environ=OF_A_POD)
    assert (code, found["metrics"]) == (0, run.summary()["test"]), found
    code, found = call(run, "export", run.dir, "--to", tmp_path, "--format", "keras")
    assert (code, found["files"]) == (0, [f"{tmp_path}/model.keras"]), found
    by_tensorflow = replace(run, zygote=zygote)
    code, found = call(
        by_tensorflow, "export", run.dir, "--to", tmp_path, "--format", "saved_model"
    )
    assert (code, found["files"]) == (0, [f"{tmp_path}/saved_model"]), found


@pytest.mark.long
def test_all_styles_of_a_step_come_to_the_same_numbers(styles):
    first, *others = [run.summary()["history"] for run in styles.values()]
    for history in others:
        assert history == {name: pytest.approx(found, rel=1e-5) for name, found in first.items()}


@pytest.mark.long
def test_fit_comes_to_the_same_bits_as_the_loop(other, styles, tmp_path):
    run = run_in(tmp_path / "fit", other, styles["compile"].settings)
    life = run.train(train__engine="fit")
    assert life.code == 0, life.text()
    assert run.sha256() == styles["compile"].sha256()
    assert run.summary()["history"] == styles["compile"].summary()["history"]


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        pytest.param("fashion_mnist", {"params.convolutions": 1}, marks=pytest.mark.long),
        pytest.param("tickets", {}, marks=pytest.mark.long),
        pytest.param(
            "tickets",
            {"params.form": "subclassed", "params.structure": "lists"},
            marks=pytest.mark.long,
        ),
        pytest.param("cifar10", {"params.filters": 4, "params.units": 8}, marks=pytest.mark.long),
        pytest.param(
            "beans",
            {
                "params.image_size": 32,
                "params.alpha": 0.1,
                "data.train": "train[:128]",
                "data.validation": "train[128:192]",
            },
            marks=pytest.mark.long,
        ),
    ],
)
def test_recipes_train(other, tmp_path, name, settings):
    run = run_in(tmp_path / name, other, FEW | settings | {"train.epochs": 1}, name)
    life = run.train(callbacks=[{"name": "confusion_matrix"}])
    assert life.code == 0, life.text()
    assert run.summary()["test"]["loss"] > 0
    assert [file.name for file in (run.dir / "pictures").iterdir()] == ["confusion_matrix.png"]


@pytest.mark.long
def test_the_expected_result_is_reached(other, tmp_path):
    quick = {"data.last_batch": "drop", "data.eval_batch_size": 360, "train.threads": 1}
    run = run_in(tmp_path / "digits", other, QUIET | NO_EXPORT | quick, "digits")
    life = run.start()
    assert life.wait(100) == 0, life.text()
    expected = float(recipe_facts("digits").expected.split()[1])
    assert run.summary()["test"]["accuracy"] == pytest.approx(expected, abs=0.03)


@pytest.fixture(scope="module")
def both_ways(zygote, other, tmp_path_factory):
    """(TensorFlow's run, the other's): both go on with the checkpoint of TensorFlow's step 10."""
    folder = tmp_path_factory.mktemp("both")
    origin = run_in(folder / "origin", zygote, CALM)
    assert origin.train().code == 0, origin.lives[0].text()
    runs = []
    for name, process in (("same", zygote), ("changed", other)):
        run = run_in(folder / name, process, CALM)
        shutil.copytree(origin.dir, run.dir)
        note = {"name": "tests.faults.inject:NoteLosses", "stateless": True}
        life = run.train(callbacks=[note], train__epochs=6)
        assert life.code == 0, life.text()
        assert life.events("restore")[0]["step"] == STEPS
        runs.append(run)
    return runs


def losses(run):
    """Each step's own loss, from the means of its epoch's steps up to each."""
    means = [(int(step), float(mean)) for _, step, mean in map(str.split, run.fired())]
    own, total = [], 0.0
    for step, mean in means:
        before = total if step else 0.0
        total = mean * (step + 1)
        own.append(total - before)
    return own


def test_losses_are_those_of_tensorflow(both_ways):
    same, changed = map(losses, both_ways)
    assert len(same) == len(changed) == 50
    assert changed == pytest.approx(same, abs=1e-4)


def test_a_run_goes_on_with_another_backend_and_back(zygote, both_ways):
    same, changed = both_ways
    assert same.lives[0].events("backend changed") == []
    there = changed.lives[0].events("backend changed")
    assert [(e["was"], e["now"]) for e in there] == [("tensorflow", BACKEND)]
    changed.zygote = zygote
    life = changed.train(train__epochs=7, callbacks=[])
    assert life.code == 0, life.text()
    back = life.events("backend changed")
    assert [(e["was"], e["now"]) for e in back] == [(BACKEND, "tensorflow")]
    assert life.events("restore")[0]["step"] == 6 * STEPS


@pytest.mark.long
def test_it_goes_on_there_and_back_with_noise_too(zygote, other, tmp_path):
    run = run_in(tmp_path / "noisy", zygote, CALM | {"params.dropout": 0.5})
    for epochs, process in enumerate((zygote, other, zygote), start=1):
        run.zygote = process
        life = run.train(train__epochs=epochs)
        assert life.code == 0, life.text()
    assert life.events("restore")[0]["step"] == 2 * STEPS


def test_a_loop_of_ones_own_for_tensorflow_is_refused(other, tmp_path):
    run = run_in(tmp_path / "own", other, FEW | NO_EXPORT | {"params.loop": "own"}, "fashion_mnist")
    life = run.train()
    assert life.code == 2, life.text()
    assert "it uses tf.GradientTape" in life.text()


# settings, what is said
REFUSED = [
    ({"cluster.replicas": 2}, "set cluster.replicas=1"),
    ({"train.accumulate_steps": 2}, "set train.accumulate_steps=1"),
    ({"train.precision": "mixed_float16"}, "set train.precision=mixed_bfloat16"),
    ({"export.formats": ["saved_model"]}, "export the trained run with KERAS_BACKEND=tensorflow"),
    ({"recipe": "tests.faults.recipe:guide"}, "it uses tf.GradientTape"),
]


@pytest.mark.parametrize(("settings", "said"), REFUSED)
def test_what_a_backend_cannot_do_is_refused(other, tmp_path, settings, said):
    run = Run(other, tmp_path, settings)
    life = run.train()
    assert life.code == 2, life.text()
    assert said in life.text()
    assert "KERAS_BACKEND=tensorflow" in life.text()
    assert run.committed() == []


def test_several_workers_are_refused(other, tmp_path):
    run = Run(other, tmp_path)
    life = run.train("--workers", "2", command="train")
    assert life.code == 2, life.text()
    assert "2 workers cannot train together" in life.text()
    assert not run.dir.exists()
