"""Notices of TensorFlow's import are left out, everything else on standard error is not."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NOTICES = (
    "WARNING: All log messages before absl::InitializeLog() is called are written to STDERR\n"
    "I0000 00:00:1795251979.245293    7625 port.cc:153] oneDNN custom operations are on.\n"
    "To enable the following instructions: AVX2, rebuild TensorFlow.\n"
)
ERRORS = "E0000 00:00:1 cuda.cc:1] no device\nW0000 00:00:1 x.cc:1] slow\nIllegal instruction\n"
SCRIPT = """
import os, sys
from trainer.tensorflow_start import importing_tensorflow
with importing_tensorflow():
    os.write(2, {text!r}.encode())
    {inside}
print(os.environ["TF_CPP_MIN_LOG_LEVEL"], file=sys.stderr)
"""


def run(inside="pass", **environ):
    script = SCRIPT.format(text=NOTICES + ERRORS, inside=inside)
    kept = {k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"}
    return subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, env={**kept, **environ}, capture_output=True,
        text=True, timeout=60,
    )  # fmt: skip


@pytest.mark.parametrize("module", ["tensorflow", "wave"])
def test_nothing_is_collected_inside_and_tensorflow_is_left_alone_for_good(module):
    code = (
        "import gc\nfrom trainer.tensorflow_start import importing_tensorflow\n"
        f"with importing_tensorflow():\n    print(gc.isenabled())\n    import {module}\n"
        "print(gc.isenabled(), gc.get_freeze_count() > 0)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert result.stdout == f"False\nTrue {module == 'tensorflow'}\n"


def test_only_notices_are_left_out():
    assert run().stderr == ERRORS + "2\n"


def test_a_crash_inside_is_seen():
    result = run("os.abort()")
    assert result.returncode == -6
    assert result.stderr == ERRORS


def test_an_exception_inside_goes_on():
    result = run("raise ImportError('no such library')")
    assert result.stderr.startswith(ERRORS + "Traceback")


@pytest.mark.parametrize(("level", "shown"), [("0", NOTICES + ERRORS), ("3", ERRORS)])
def test_the_level_that_was_set_stays(level, shown):
    assert run(TF_CPP_MIN_LOG_LEVEL=level).stderr == f"{shown}{level}\n"


def test_tensorflow_itself_is_quiet():
    code = (
        "from trainer.tensorflow_start import importing_tensorflow\n"
        "with importing_tensorflow():\n    import tensorflow as tf\n"
        "tf.constant(1) + 1"
    )
    kept = {k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"}
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=kept, capture_output=True, text=True
    )
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.long
def test_a_recipe_that_begins_with_keras_is_quiet(tmp_path):
    (tmp_path / "mine.py").write_text(
        "import keras\nkeras.ops.ones(1)\nfrom trainer.recipes.fashion_mnist import recipe\n"
    )
    command = [sys.executable, "-m", "trainer", "config", "check", "-c", "fashion_mnist"]
    kept = {k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"}
    result = subprocess.run(
        [*command, "--set", "recipe=mine:recipe"], cwd=tmp_path,
        env={**kept, "PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}"}, capture_output=True, text=True,
    )  # fmt: skip
    assert (result.stdout, result.stderr) == ("ok: recipe mine:recipe, run local\n", "")
