"""A command whose output cannot be written ends as Unix tools do."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from trainer.preflight import check_data
from trainer.recipes.catalog import load_run
from trainer.run.run_dir import RunDir

ROOT = Path(__file__).parents[2]
# By click alone, before a command is called, by rich, as JSON, and by print.
COMMANDS = [
    ["--version"], ["--help"], ["config", "--help"], ["recipes", "list"],
    ["recipes", "list", "--json"], ["config", "show", "-c", "fashion_mnist"],
]  # fmt: skip
needs_full = pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")


def trainer(*args, redirect="", **options):
    """(exit code, standard error) of one command."""
    command = ["sh", "-c", f'exec "$@" {redirect}', "sh", sys.executable, "-m", "trainer", *args]
    result = subprocess.run(
        command, cwd=ROOT, stderr=subprocess.PIPE, text=True, timeout=60, **options
    )
    return result.returncode, result.stderr


def left_by_its_reader(*args):
    """(exit code, standard error) with a pipe that nobody reads."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        return trainer(*args, stdout=writer)
    finally:
        os.close(writer)


@pytest.fixture
def complete(tmp_path):
    """The command line of a run that is complete."""
    overrides = [f"run.dir={tmp_path}", "data.test=null"]
    config, _, params = load_run("fashion_mnist", overrides)
    run = RunDir(config.run.dir)
    run.admit(config, type(params), check_data(config).content_hash)
    run.write_summary({"complete": True, "epochs": config.train.epochs, "steps": 1})
    return ["train", "-c", "fashion_mnist", *(w for text in overrides for w in ("--set", text))]


@pytest.mark.parametrize("args", COMMANDS, ids=" ".join)
def test_a_reader_that_leaves_is_no_error(args):
    assert left_by_its_reader(*args) == (141, "")


@pytest.mark.usefixtures("complete")
def test_characters_that_an_encoding_lacks_are_escaped(tmp_path):
    run, said = tmp_path / "ü☃", tmp_path / "said"
    run.mkdir()
    for name in ("config.yaml", "run.json", "summary.json"):
        shutil.copy(tmp_path / name, run)
    environ = os.environ | {"PYTHONIOENCODING": "ascii"}
    code, error = trainer("runs", "status", run, redirect=f">{said}", env=environ)
    assert (code, error) == (0, "")
    assert r"\xfc\u2603" in said.read_text()


@needs_full
@pytest.mark.parametrize("args", COMMANDS, ids=" ".join)
def test_a_full_device_is_told(args):
    said = "trainer: cannot write to standard output: No space left on device\n"
    assert trainer(*args, redirect=">/dev/full") == (1, said)


@pytest.mark.parametrize("args", COMMANDS, ids=" ".join)
def test_output_that_is_closed_is_not_wanted(args):
    assert trainer(*args, redirect=">&-") == (0, "")


@needs_full
@pytest.mark.parametrize("redirect", ["2>/dev/full", "2>&-"])
def test_errors_that_cannot_be_written_keep_their_code(redirect):
    assert trainer("trian", redirect=redirect)[0] == 2


def test_a_run_that_nobody_reads_is_complete(complete):
    assert left_by_its_reader(*complete) == (0, "")


@needs_full
def test_a_run_whose_log_cannot_be_written_is_complete(complete):
    # Its agent prints for it, and says it once.
    said = "trainer: the log cannot be written: No space left on device\n"
    assert trainer(*complete, redirect=">/dev/full") == (0, said)
