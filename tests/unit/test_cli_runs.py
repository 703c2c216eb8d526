"""`trainer runs delete`."""

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
        ".access-0123", "notes.txt",
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
