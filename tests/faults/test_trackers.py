"""Tracking services have one run for one of ours: over kills, workers, and numbers of them."""

import json
from collections import Counter
from pathlib import Path

import pytest
from mlflow import MlflowClient
from wandb.proto.wandb_internal_pb2 import Record

from tests.emulator import free_port
from tests.faults.groups import Agents, at_the_gate, finish, gate
from tests.faults.harness import Run, signal_at
from tests.faults.test_debug import debug
from tests.faults.test_trained_model import files
from trainer.callbacks.wandb_file import WandbFile

# Each life imports two packages of some seconds.
pytestmark = pytest.mark.timeout(300)
STEPS = {"every_steps": 1}
TRACKERS = [{"name": "wandb", "args": STEPS}, {"name": "mlflow", "args": STEPS}]
NOTES = [
    {"name": "tests.faults.inject:NoteRun"},
    {"name": "tests.faults.inject:NoteRun", "args": {"name": "chief"}, "chief_only": True},
]


def environment(folder):
    """Both services without a network."""
    return {
        "WANDB_MODE": "offline", "WANDB_DIR": str(folder),
        "MLFLOW_TRACKING_URI": f"file://{folder}/mlflow", "MLFLOW_ALLOW_FILE_STORE": "true",
    }  # fmt: skip


@pytest.fixture(scope="module")
def reported(zygote, tmp_path_factory):
    """Two workers, of which the first was killed after step 6, and went on from step 4."""
    folder = tmp_path_factory.mktemp("reported")
    run = Run(zygote, folder, environ=environment(folder))
    agents = Agents(run, settings={"callbacks": [*TRACKERS, *NOTES, gate(run)]})
    agents.start()
    at_the_gate(agents)
    agents.kill_worker(0)
    return agents


@pytest.fixture(scope="module")
def finished(calm, reported):
    finish(reported, calm)
    return reported.run


def run_id(run):
    return json.loads((run.dir / "run.json").read_text())["id"]


def of_wandb(folder):
    """The ids of all lives, and (step, values) of each row in them."""
    ids, rows = set(), []
    for file in sorted(Path(folder).glob("wandb/offline-run-*/*.wandb")):
        ids.add(file.stem.removeprefix("run-"))
        for data in WandbFile(file).records():
            record = Record.FromString(data)
            if record.HasField("run"):
                ids.add(record.run.run_id)
            if record.HasField("history"):
                items = {
                    item.key or "/".join(item.nested_key): item for item in record.history.item
                }
                values = {name: json.loads(item.value_json) for name, item in items.items()}
                rows.append((record.history.step.num, values))
    return ids, rows


def of_mlflow(folder):
    """(tags, status, parameters, (step, value) by metric) of each run."""
    client = MlflowClient(f"file://{folder}/mlflow")
    experiments = [one.experiment_id for one in client.search_experiments()]
    found = []
    for run in client.search_runs(experiments):
        histories = {
            name: [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, name)]
            for name in run.data.metrics
        }
        found.append((run.data.tags, run.info.status, run.data.params, histories))
    return found


def check_one_run(run, epochs):
    """Each step and each epoch is there once, and the epochs' numbers are those of the summary."""
    steps = list(range(1, 9 * epochs + 1))
    losses = run.summary()["history"]["val_loss"]
    ids, rows = of_wandb(run.folder)
    assert ids == {run_id(run)}
    assert [step for step, _ in rows] == steps
    assert all("batch/loss" in values for _, values in rows)
    assert [values["val_loss"] for _, values in rows if "val_loss" in values] == losses
    [(tags, status, params, histories)] = of_mlflow(run.folder)
    assert (tags["trainer.run_id"], status) == (run_id(run), "FINISHED")
    assert params["data.batch_size"] == "32"
    assert [step for step, _ in histories["batch/loss"]] == steps
    assert histories["val_loss"] == list(zip(steps[8::9], losses, strict=True))


@pytest.fixture
def mlflow_files(monkeypatch):
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")


@pytest.mark.long
@pytest.mark.usefixtures("mlflow_files")
def test_a_killed_run_of_two_workers_is_one_run_there(finished):
    check_one_run(finished, epochs=2)


@pytest.mark.long
def test_all_workers_know_the_run_in_each_life_and_one_has_what_is_the_chiefs(finished):
    noted = Counter(line for line in finished.fired() if "GateAt" not in line)
    told = [f"{who} {run_id(finished)} {step}" for step in (0, 4) for who in ("run 0", "run 1")]
    told += [f"chief 0 {run_id(finished)} {step}" for step in (0, 4)]
    built = Counter({"run built 0": 2, "run built 1": 2, "chief built 0": 2})
    assert noted == Counter(told) + built


@pytest.mark.long
@pytest.mark.usefixtures("mlflow_files")
def test_it_stays_the_same_run_for_another_number_of_workers(finished):
    before = run_id(finished)
    debugged = files(finished.folder)
    life, _ = debug(finished, "--step", 12, "--steps", 2)
    assert life.code == 0, life.text()
    assert files(finished.folder) == debugged
    life = finished.train(train__epochs=3, callbacks=[*TRACKERS, *NOTES])
    assert life.code == 0, life.text()
    assert finished.fired()[-2:] == [f"run 0 {before} 18", f"chief 0 {before} 18"]
    assert run_id(finished) == before
    check_one_run(finished, epochs=3)


def test_a_service_that_does_not_answer_is_warned_of_once(run, undisturbed):
    run.environ = {
        "MLFLOW_TRACKING_URI": f"http://127.0.0.1:{free_port()}",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    }
    life = run.train(callbacks=[TRACKERS[1]])
    assert life.code == 0, life.text()
    [warning] = life.events("tracking fails")
    assert warning["service"] == "MLflow"
    assert life.events("tracking is incomplete")[0]["rows"] == 18
    assert run.sha256() == undisturbed.sha256()
    rows = run.last().manifest.state["callbacks"]["MlflowLogger-0"]["rows"]
    assert [row[0] for row in rows] == list(range(1, 19))


@pytest.mark.long
@pytest.mark.usefixtures("mlflow_files")
def test_what_a_service_missed_comes_when_it_answers(zygote, tmp_path):
    run = Run(zygote, tmp_path, environ=environment(tmp_path))
    away = {
        "MLFLOW_TRACKING_URI": f"http://127.0.0.1:{free_port()}",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    }
    life = run.train(
        callbacks=[*TRACKERS, signal_at(14)], environ=away, checkpoint__background=False
    )
    assert life.code == -9, life.text()
    assert run.train(callbacks=TRACKERS).code == 0, run.lives[-1].text()
    check_one_run(run, epochs=2)


@pytest.mark.parametrize(
    ("name", "environ", "said"),
    [
        ("mlflow", {"MLFLOW_TRACKING_URI": ""}, "set MLFLOW_TRACKING_URI"),
        pytest.param(
            "mlflow",
            {"MLFLOW_TRACKING_URI": "ftp://there"},
            "MLflow refuses: ",
            marks=pytest.mark.long,
        ),
        pytest.param(
            "wandb",
            {"WANDB_MODE": "online", "WANDB_API_KEY": ""},
            "W&B refuses: UsageError: No API key",
            marks=pytest.mark.long,
        ),
    ],
)
def test_a_wrong_configuration_is_refused_at_the_start(run, name, environ, said):
    life = run.train(callbacks=[{"name": name}], environ=environ)
    assert life.code == 2, life.text()
    assert said in life.events("error")[0]["message"]
    assert run.committed() == []
