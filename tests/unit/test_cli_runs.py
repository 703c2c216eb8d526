"""`trainer runs`: what is kept of runs, and their end."""

import json
import shutil

import pytest
from click.testing import CliRunner

from tests.small_storage import paths
from trainer.checkpoint.holder import this_holder
from trainer.checkpoint.lease import acquire
from trainer.cli.runs import runs
from trainer.errors import ConfigError, RunHeldError
from trainer.storage import open_storage


@pytest.fixture
def run(tmp_path):
    """A folder like a run's, with a file of somebody else."""
    storage = open_storage(str(tmp_path / "demo"))
    for path in (
        "config.yaml", "run.json", "summary.json", "lease.clock", "model/model.keras",
        "curves/000001.json",
        "pictures/loss_curves.png", "plugins/profile/steps-8-9/worker-0.xplane.pb",
        "checkpoints/step-00000004-f1/COMMIT", "checkpoints/step-00000004-f1/a/manifest.json",
        ".access-0123", "logs/worker-0/000001.log", "notes.txt",
    ):  # fmt: skip
        storage.write(path, b"{}")
    return storage


def delete(run, *args, typed=""):
    return CliRunner().invoke(runs, ["delete", run.url, *args], input=typed)


def test_what_a_run_wrote_goes_and_the_rest_stays(run):
    result = delete(run, typed="demo\n")
    assert result.exit_code == 0, result.output
    assert "notes.txt" in result.output
    assert paths(run) == ["notes.txt"]


@pytest.mark.parametrize(("args", "typed"), [((), "local\n"), (("--name", "dem"), "")])
def test_another_name_deletes_nothing(run, args, typed):
    before = paths(run)
    result = delete(run, *args, typed=typed)
    assert isinstance(result.exception, ConfigError)
    assert paths(run) == before


def test_a_run_that_is_held_is_refused(run):
    acquire(run, this_holder({"TRAINER_JOB_ID": "a"}))
    before = paths(run)
    result = delete(run, "--name", "demo")
    assert isinstance(result.exception, RunHeldError)
    assert "held by job a" in str(result.exception)
    assert paths(run) == before


def test_no_run_is_said(run, tmp_path):
    shutil.rmtree(tmp_path / "demo")
    assert isinstance(delete(run, "--name", "demo").exception, ConfigError)
    assert not (tmp_path / "demo").exists()


@pytest.fixture
def logs(run):
    """The last words of three workers' lives."""
    for generation, worker in ((1, 0), (1, 1), (12, 0)):
        text = f"worker {worker} in generation {generation}: caf\u00e9\n"
        run.write(f"logs/worker-{worker}/{generation:06d}.log", text.encode())
    return run


def show(run, *args):
    return CliRunner().invoke(runs, ["logs", run.url, *args])


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ((), "worker 0 in generation 12"),
        (("--generation", "1"), "worker 0 in generation 1"),
        (("--worker", "1"), "worker 1 in generation 1"),
    ],
)
def test_the_last_words_of_a_worker_are_printed_as_they_were(logs, args, said):
    assert show(logs, *args).output == f"{said}: caf\u00e9\n"


def test_what_is_kept_is_listed(logs):
    rows = [line.split()[:3] for line in show(logs, "--list").output.splitlines()]
    assert rows[0] == ["GENERATION", "WORKER", "BYTES"]
    assert rows[2:] == [["1", "0", "32"], ["1", "1", "32"], ["12", "0", "33"]]
    listed = json.loads(show(logs, "--list", "--json").output)
    assert [(log["generation"], log["worker"]) for log in listed] == [(1, 0), (1, 1), (12, 0)]


@pytest.mark.parametrize(
    ("args", "listed"),
    [
        (("--worker", "0"), [(1, 0), (12, 0)]),
        (("--generation", "1"), [(1, 0), (1, 1)]),
        (("--worker", "1", "--generation", "12"), []),
    ],
)
def test_a_list_of_some_logs(logs, args, listed):
    shown = json.loads(show(logs, "--list", "--json", *args).output)
    assert [(log["generation"], log["worker"]) for log in shown] == listed


@pytest.mark.parametrize("generation", ["0", "12"])
def test_what_is_not_kept_is_named(logs, generation):
    error = show(logs, "--worker", "1", "--generation", generation).exception
    assert isinstance(error, ConfigError)
    assert f"no log of worker 1 in generation {generation}" in str(error)
    assert "--list" in str(error)
