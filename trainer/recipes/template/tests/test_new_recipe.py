"""The configuration is complete, and a short training learns something."""

import json
import subprocess
import sys
from pathlib import Path


def trainer(*args: str) -> None:
    """One command of the trainer, which must succeed."""
    command = [sys.executable, "-m", "trainer", *args]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr


def test_the_configuration_is_right() -> None:
    trainer("config", "check", "-c", "new_recipe", "--data")


def test_a_short_training_learns(tmp_path: Path) -> None:
    # Its end is the exported model, which is loaded again and compared: `Residual` comes back.
    short = {"run.dir": tmp_path, "train.epochs": 3, "metrics.enabled": "false"}
    trainer("train", "-c", "new_recipe", *(f"--set={key}={value}" for key, value in short.items()))
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["epochs"] == 3
    assert summary["test"]["accuracy"] > 0.6
