"""A variable of ours that means nothing is refused; commands are named as they were called."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from trainer.environment import check_environment
from trainer.errors import ConfigError


@pytest.mark.parametrize("name", ["TRAINER_DEBUG", "PATH", "_TRAINER_COMPLETE"])
def test_known_or_not_ours(name):
    check_environment({name: "x"})


def test_misspelt():
    with pytest.raises(ConfigError) as caught:
        check_environment({"TRAINER_DEBUGG": "hunter2"})
    assert str(caught.value) == (
        "unknown environment variable TRAINER_DEBUGG: unset it, or did you mean TRAINER_DEBUG?"
    )


def test_strange():
    with pytest.raises(ConfigError, match="known: TRAINER_DEBUG"):
        check_environment({"TRAINER_X_PORT_8080_TCP": "tcp://10.0.0.1"})


@pytest.mark.parametrize(
    ("folder", "on_path", "called", "shown"),
    [
        ("my venv/bin", False, "my venv/bin/trainer", "'my venv/bin/trainer' train -c"),
        ("bin", False, "bin/trainer", "bin/trainer train -c"),
        ("bin", True, "bin/trainer", "  trainer train -c"),
        ("bin", True, "trainer", "  trainer train -c"),
    ],
)
def test_commands_that_are_suggested_can_be_typed(tmp_path, folder, on_path, called, shown):
    script = tmp_path / folder / "trainer"
    script.parent.mkdir(parents=True)
    script.write_text("from trainer.cli import main\nmain()\n")
    script.chmod(0o755)
    path = f"{script.parent}{os.pathsep}/bin" if on_path else "/bin"
    # As a console script is started by its first line.
    command = [sys.executable, str(script) if called == "trainer" else called, "recipes", "list"]
    environ = {**os.environ, "PATH": path, "PYTHONPATH": str(Path(__file__).parents[2])}
    result = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True)
    assert shown in result.stdout, result.stderr
