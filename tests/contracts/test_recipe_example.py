"""The example that docs/recipes.md begins with is taken from the page and run as it stands."""

import json
import sys

import pytest

from tests.pages import files_of, read_page, run, run_commands, write_files

PAGE = read_page("recipes.md")
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
    assert list(files_of(PAGE)) == ["write_disc.py", "disc.py", "disc.yaml"]
    write_files(PAGE, folder)
    run_commands(PAGE, folder)
    return folder


@pytest.mark.long
def test_it_trains_on_its_own_data(trained):
    summary = json.loads((trained / "runs" / "disc" / "summary.json").read_text())
    assert (summary["epochs"], summary["steps"]) == (3, 3 * 29)
    assert summary["test"]["accuracy"] > 0.7


@pytest.mark.long
def test_the_exported_model_needs_neither_trainer_nor_recipe(trained):
    assert run(trained, sys.executable, "-c", LOAD) == "[1, 0]\n"
