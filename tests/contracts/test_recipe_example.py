"""The example that docs/recipes.md begins with is taken from the page and run as it stands."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "recipes.md").read_text()
LOAD = """
import sys
import keras
import numpy as np
model = keras.saving.load_model("runs/disc/model/model.keras", compile=False)
print(np.argmax(model(np.array([[0.1, 0.1], [0.9, 0.9]], "float32")), axis=-1).tolist())
assert not {"trainer", "disc"} & set(sys.modules)
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder in which the page's files were written and its commands run."""
    folder = tmp_path_factory.mktemp("own")
    files = re.findall(r"^`([\w.]+)` .*?\n\n```\w+\n(.*?)```", PAGE, re.DOTALL | re.MULTILINE)
    assert [name for name, _ in files] == ["write_disc.py", "disc.py", "disc.yaml"]
    for name, text in files:
        (folder / name).write_text(text)
    (commands,) = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
    # As if both were on PATH.
    tools = 'python() { "$PYTHON" "$@"; }\ntrainer() { python -P -m trainer "$@"; }\n'
    run(folder, "bash", "-euc", tools + commands)
    return folder


def run(folder, *command):
    """Standard output of a command that must succeed."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHON": sys.executable}
    result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_it_trains_on_its_own_data(trained):
    summary = json.loads((trained / "runs" / "disc" / "summary.json").read_text())
    assert (summary["epochs"], summary["steps"]) == (3, 3 * 29)
    assert summary["test"]["accuracy"] > 0.7


def test_the_exported_model_needs_neither_trainer_nor_recipe(trained):
    assert run(trained, sys.executable, "-c", LOAD) == "[1, 0]\n"
