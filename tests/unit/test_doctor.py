"""`trainer doctor` on this machine: of a recipe's run and of a script's, and the metrics port."""

import json

import pytest
from click.testing import CliRunner

from trainer.cli.doctor import doctor

SCRIPT = "import trainer\n"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.py").write_text(SCRIPT)
    (tmp_path / "run.yaml").write_text("checkpoint: {every_steps: 10}\n")
    return tmp_path


def examine(*args):
    """The exit code, and what was found by name of the check."""
    result = CliRunner().invoke(doctor, ["--json", *args])
    assert result.stdout, result.output
    return result.exit_code, {found["check"]: found for found in json.loads(result.stdout)}


def test_a_scripts_run_is_examined_as_trainer_run_reads_it(folder):
    args = ("-c", "run.yaml", "--set", "run.dir=runs/mine", "train.py", "--epochs", "5")
    code, found = examine(*args)
    assert code == 0, found
    assert found.keys() == {"configuration", "packages", "run", "metrics port"}
    assert found["configuration"]["detail"] == "script train.py, run mine"
    assert "runs/mine can be gone on with" in found["run"]["detail"]
    assert not (folder / "runs").exists()


def test_a_script_needs_no_file_of_keys(folder):
    code, found = examine("--set=metrics.enabled=false", "train.py")
    assert code == 0, found
    assert "runs/train can" in found["run"]["detail"]


def test_what_a_scripts_run_would_be_refused_for_is_told(folder):
    result = CliRunner().invoke(doctor, ["--set=train.epochs=3", "train.py"])
    assert "give epochs to trainer.fit" in str(result.exception)
    result = CliRunner().invoke(doctor, ["none.py"])
    assert "cannot read script none.py" in str(result.exception)


def test_without_either_it_says_what_is_missing():
    result = CliRunner().invoke(doctor, [])
    assert result.exit_code == 2
    assert "Missing option '-c' / '--config', or a script" in result.output
