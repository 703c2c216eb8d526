"""The final error of a command, and only that, is left where Kubernetes looks for it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from trainer.last_words import MOST_BYTES, leave

ROOT = Path(__file__).parents[2]
VARIABLE = "TRAINER_TERMINATION_LOG"
RUN_YAML = """\
recipe: fashion_mnist
data: {url: %s, batch_size: 64}
train: {epochs: 1}
metrics: {enabled: false}
"""


@pytest.fixture
def log(tmp_path):
    """As the kubelet makes it: it is there, and empty."""
    path = tmp_path / "termination-log"
    path.touch()
    return path


def trainer(log, *args, **variables):
    """A real command, in the folder of the log; its exit code and standard error."""
    command = [sys.executable, "-m", "trainer", *args]
    environ = {VARIABLE: str(log), "PYTHONPATH": str(ROOT), "PATH": "/bin", **variables}
    result = subprocess.run(
        command, cwd=log.parent, env=environ, capture_output=True, text=True, timeout=60
    )
    return result.returncode, result.stderr


def test_a_wrong_configuration(log):
    code, errors = trainer(log, "train", "-c", "nowhere.yaml")
    assert code == 2
    assert "no config 'nowhere.yaml'" in log.read_text()
    assert json.loads(errors)["message"] == log.read_text()


def test_what_the_worker_ended_with_is_told_by_its_agent(log):
    (log.parent / "run.yaml").write_text(RUN_YAML % "data/nowhere")
    code, _ = trainer(log, "train", "-c", "run.yaml")
    assert code == 3
    assert "data/nowhere" in log.read_text()


def test_an_agents_worker_does_not_write(log, monkeypatch):
    from trainer.agent.process import WorkerProcess, spawn_worker

    monkeypatch.setenv(VARIABLE, str(log))
    monkeypatch.setattr(sys, "argv", ["trainer-of-a-test"])
    process = WorkerProcess(spawn_worker, ["worker", "-c", "nowhere.yaml"], {})
    assert process.ended.result(60) == 2
    process.channel.close()
    assert log.read_text() == ""


def test_a_command_that_is_typed_into_a_pod_does_not_write(log):
    code, errors = trainer(log, "runs", "status", "nowhere", KUBERNETES_SERVICE_HOST="10.0.0.1")
    assert (code, log.read_text()) == (2, "")
    assert "nowhere" in errors


# pid, its parent's pid
@pytest.mark.parametrize("pids", [(1, 0), (7, 1)], ids=["first", "under an init"])
def test_what_a_pod_was_made_for_writes(log, pids):
    leave("why", {VARIABLE: str(log), "KUBERNETES_SERVICE_HOST": "10.0.0.1"}, pids)
    assert log.read_text() == "why"


def test_nothing_is_left_of_a_good_end(log):
    assert trainer(log, "recipes", "list")[0] == 0
    assert log.read_text() == ""


def test_it_is_bounded_and_ends_with_a_whole_letter(log):
    leave("é" * MOST_BYTES + "end", {VARIABLE: str(log)})
    assert log.read_text() == "é" * (MOST_BYTES // 2)


def test_a_file_that_cannot_be_written_is_no_error(tmp_path):
    leave("why", {VARIABLE: str(tmp_path / "no" / "folder")})
    leave("why", {})
