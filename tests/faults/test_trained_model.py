"""evaluate and export give the model that the run ended with, or an earlier one."""

import json
import zipfile

import pytest

from tests.faults.harness import ROOT, Life, Run, signal_at, storage_fault
from tests.own_files import NAMES, prepared, rows, write_csv
from trainer.cluster import tf_config

# Worse from the start by this measure, so it stops early and takes the first epoch's weights.
EARLY = {
    "name": "early_stopping",
    "args": {"monitor": "loss", "mode": "max", "patience": 1, "restore_best_weights": True},
}
ENDINGS = {
    "plain": {},
    "averaged weights": {"recipe": "tests.faults.averaged_recipe:averaged"},
    "stopped early": {"callbacks": [EARLY], "train__epochs": 4},
    "best": {"export__weights": "best", "checkpoint__best": {"metric": "loss", "mode": "max"}},
}
USUAL = ("averaged weights", "best")
# What a shell in a pod of a group has, of the chart's or of an operator's.
OF_A_POD = {"TRAINER_NUM_WORKERS": "2", "TRAINER_WORKER_INDEX": "1", "TRAINER_LEADER": "gone"}
OF_AN_OPERATOR = {"TF_CONFIG": tf_config(("gone-0:2222", "gone-1:2222"), 1)}


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(name, marks=() if name in USUAL else pytest.mark.long) for name in ENDINGS
    ],
)
def finished(request, zygote, tmp_path_factory):
    """A complete run with an exported model."""
    run = Run(zygote, tmp_path_factory.mktemp("run"))
    life = run.train(**{"export__formats": ["keras"], **ENDINGS[request.param]})
    assert life.code == 0, life.text()
    return run


def call(run, *argv, environ=()):
    """One command on a run; (exit code, its JSON document or its text)."""
    number = len(list(run.folder.glob("call-*")))
    output = run.folder / f"call-{number}.txt"
    request = {"argv": [*map(str, argv), "--json"], "env": dict(environ), "cwd": str(ROOT)}
    answer = run.zygote.ask({**request, "output": str(output)})
    life = Life(run.zygote, answer["pid"], output)
    life.wait()
    text = life.text()
    return life.code, json.loads(text[text.index("{\n") :]) if life.code == 0 else text


def files(folder):
    return {str(p): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def weights(model):
    """The arrays in a .keras file."""
    return zipfile.ZipFile(model).read("model.weights.h5")


def test_evaluate_repeats_the_runs_own_test_and_changes_nothing(finished):
    before = files(finished.dir)
    code, found = call(finished, "evaluate", finished.dir)
    assert code == 0, found
    assert found["metrics"] == finished.summary()["test"]
    assert (found["final"], found["split"]) == (True, "test[:70]")
    assert files(finished.dir) == before


def test_export_repeats_the_runs_own_model(finished, tmp_path):
    code, found = call(finished, "export", finished.dir, "--to", tmp_path, "--format", "keras")
    assert code == 0, found
    assert found["files"] == [f"{tmp_path}/model.keras"]
    assert weights(tmp_path / "model.keras") == weights(finished.dir / "model" / "model.keras")


@pytest.mark.parametrize("environ", [OF_A_POD, OF_AN_OPERATOR], ids=["chart", "operator"])
def test_in_a_pod_of_a_group_they_work_alone(undisturbed, tmp_path, environ):
    code, found = call(undisturbed, "evaluate", undisturbed.dir, environ=environ)
    assert code == 0, found
    assert found["metrics"] == undisturbed.summary()["test"]
    options = ("--to", tmp_path, "--format", "saved_model", "--format", "keras")
    code, found = call(undisturbed, "export", undisturbed.dir, *options, environ=environ)
    assert code == 0, found
    assert len(found["files"]) == 2


@pytest.fixture(scope="module")
def of_gpus(zygote, tmp_path_factory):
    """A complete run on two devices, GPUs by its configuration, as the chart writes it."""
    run = Run(zygote, tmp_path_factory.mktemp("gpus"))
    life = run.train(cluster__device="cpu", cluster__replicas=2, export__formats=["keras"])
    assert life.code == 0, life.text()
    config = run.dir / "config.yaml"
    text = config.read_text()
    assert "device: cpu\n  replicas: 2\n" in text
    config.write_text(text.replace("device: cpu\n", "device: gpu\n"))
    return run


def test_a_run_on_gpus_is_looked_at_on_any_machine(of_gpus):
    model = of_gpus.dir / "model" / "model.keras"
    before = weights(model)
    code, found = call(of_gpus, "evaluate", of_gpus.dir)
    assert code == 0, found
    assert found["metrics"] == pytest.approx(of_gpus.summary()["test"], rel=1e-5)
    model.unlink()
    code, found = call(of_gpus, "export", of_gpus.dir)
    assert code == 0, found
    assert weights(model) == before


def test_an_earlier_step_has_its_own_weights(undisturbed, tmp_path):
    step = undisturbed.committed()[0]
    options = ("--checkpoint", step, "--to", tmp_path, "--format", "keras")
    code, found = call(undisturbed, "export", undisturbed.dir, *options)
    assert code == 0, found
    assert (found["step"], found["final"]) == (step, False)


def test_a_step_that_is_not_there_is_a_usage_error(undisturbed):
    code, text = call(undisturbed, "evaluate", undisturbed.dir, "--checkpoint", 99_999)
    assert code == 2
    assert "no checkpoint of step 99999" in text


def test_an_unfinished_run_is_measured_as_it_is(zygote, tmp_path):
    run = Run(zygote, tmp_path)
    assert run.train(callbacks=[signal_at(6)], checkpoint__background=False).code == -9
    code, found = call(run, "evaluate", run.dir, "--split", "train[:50]")
    assert code == 0, found
    assert (found["step"], found["final"], found["split"]) == (4, False, "train[:50]")


def test_a_failed_export_takes_nothing_from_the_training(run, undisturbed):
    fault = storage_fault("fail", 1, "write") | {"folder": "/model"}
    life = run.train(storage=fault, export__formats=["keras"])
    assert run.fired()
    assert life.code == 0, life.text()
    (failed,) = life.events("the model was not exported")
    assert failed["try_again"] == f"trainer export {run.dir}"
    assert run.summary()["model"] == []
    assert "injected failure" in run.summary()["export_error"]
    assert run.summary()["test"] == undisturbed.summary()["test"]
    code, found = call(run, "export", run.dir)
    assert code == 0, found
    assert found["files"] == [f"{run.dir}/model/model.keras"]


@pytest.mark.parametrize(
    ("recipe", "named"),
    [("guide", "class Guide of tests.faults.recipe"), ("with_lambda", "a lambda")],
)
def test_a_model_that_nobody_could_load_is_refused_before_training(run, recipe, named):
    recipe = f"tests.faults.recipe:{recipe}"
    life = run.train(recipe=recipe, export__formats=["saved_model", "keras"])
    assert life.code == 2, life.text()
    assert f"as model.keras: nobody could load {named}; classes of your own need" in life.text()
    assert run.committed() == []
    assert run.train(recipe=recipe, export__formats=[]).code == 0


@pytest.fixture(scope="module")
def of_a_table(zygote, tmp_path_factory):
    """A complete run with an exported model, which is built from statistics of its data."""
    folder = tmp_path_factory.mktemp("table")
    table = rows(300)
    brighter = [row | {name: 10 * row[name] for name in NAMES} for row in table]
    for name, lines in {"data": table, "other": brighter}.items():
        write_csv(folder / "table.csv", lines)
        prepared(folder, "table.csv", to=name)
    settings = {
        "data.url": str(folder / "data"), "train.epochs": 1, "params.units": 8,
        "metrics.enabled": False, "export.formats": ["keras"],
    }  # fmt: skip
    run = Run(zygote, folder, settings, packaged="tabular_classifier")
    life = run.train()
    assert life.code == 0, life.text()
    return run


@pytest.mark.parametrize("command", ["evaluate", "export"])
def test_no_model_is_built_from_other_data_than_the_runs(of_a_table, command):
    folder, before = of_a_table.folder, files(of_a_table.dir)
    data, other, kept = (folder / name for name in ("data", "other", "kept"))
    data.rename(kept)
    other.rename(data)
    try:
        code, said = call(of_a_table, command, of_a_table.dir)
    finally:
        data.rename(other)
        kept.rename(data)
    assert code == 5, said
    assert "was started with other data" in said
    assert files(of_a_table.dir) == before
