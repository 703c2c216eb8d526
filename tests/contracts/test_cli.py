"""Commands that train nothing answer without TensorFlow, and a wrong usage ends with 2."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from trainer.cli.root import COMMANDS, trainer_command
from trainer.recipes.catalog import load_run
from trainer.run.run_dir import RunDir

ROOT = Path(__file__).parents[2]
HEAVY = {"tensorflow", "keras", "tensorflow_datasets"}
# Modules in sys.modules go to stderr after everything else.
PROBE = """
import sys
from trainer.cli.root import trainer_command
try:
    trainer_command.main(sys.argv[1:], prog_name="trainer")
except SystemExit as ending:
    print("\\n", *sorted(sys.modules), file=sys.stderr)
    sys.exit(ending.code)
"""


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    """A run with one checkpoint and no configuration: enough to be listed."""
    import numpy as np

    from trainer.checkpoint.store import CheckpointStore
    from trainer.storage import open_storage

    folder = tmp_path_factory.mktemp("run")
    store = CheckpointStore(open_storage(str(folder / "checkpoints")))
    store.save(3, {"model/0000/w": np.zeros(2, np.float32)}, state={}, metrics={"loss": 1.0})
    return folder


def call(*args):
    """One command in a process of its own, with PROBE's list of modules on standard error."""
    environ = {k: v for k, v in os.environ.items() if not k.startswith(("TRAINER_", "_TRAINER"))}
    return subprocess.run(
        [sys.executable, "-c", PROBE, *args],
        cwd=ROOT, env=environ, capture_output=True, text=True, timeout=60,
    )  # fmt: skip


def loaded(result):
    return {name.partition(".")[0] for name in result.stderr.splitlines()[-1].split()}


@pytest.mark.parametrize(
    "args",
    [
        ["train", "-c", "fashion_mnist", "--dry-run"],
        ["config", "show", "-c", "fashion_mnist"],
        ["config", "check", "-c", "fashion_mnist", "--data"],
        ["config", "check", "-c", "fashion_mnist", "--set", "callbacks=[{name: early_stopping}]"],
        ["config", "schema", "--recipe", "fashion_mnist"],
        ["recipes", "list"],
        ["recipes", "list", "--json"],
        ["data", "list"],
        ["data", "list", "--json"],
        ["data", "verify", "builtin:fashion_mnist"],
        ["completion", "bash"],
    ],
    ids=" ".join,
)
def test_command_does_without_tensorflow(args):
    result = call(*args)
    assert result.returncode == 0, result.stderr
    assert result.stdout
    assert not loaded(result) & HEAVY


def test_a_recipe_is_begun_without_tensorflow(tmp_path):
    result = call("recipes", "new", "my_recipe", "--dir", str(tmp_path / "mine"))
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "mine" / "pyproject.toml").exists()
    assert not loaded(result) & HEAVY


@pytest.mark.parametrize("args", [["list"], ["list", "--json"], ["verify"]], ids=" ".join)
def test_checkpoints_do_without_tensorflow(args, run_dir):
    result = call("checkpoints", args[0], str(run_dir), *args[1:])
    assert result.returncode == 0, result.stderr
    assert not loaded(result) & HEAVY


# key of the run, command, exit code, what is said
@pytest.mark.parametrize(
    ("override", "args", "code", "message"),
    [
        ("data.test=test", ["evaluate", "--split", "tset"], 2, "has no split 'tset'"),
        ("data.test=test", ["evaluate", "--checkpoint", "9"], 2, "no checkpoint of step 9"),
        ("data.test=null", ["evaluate"], 2, "as in --split test"),
        ("export.formats=[]", ["export"], 2, "as in --format keras"),
        ("export.formats=[keras]", ["export", "--to", "s3://x/y"], 2, "s3:// storage is not"),
        ("data.test=test", ["evaluate"], 5, "was started with other data: content hash then"),
        ("export.formats=[keras]", ["export"], 5, "was started with other data"),
    ],
)
def test_what_cannot_be_done_is_refused_before_tensorflow_is_loaded(
    override, args, code, message, tmp_path
):
    config, _, params = load_run("fashion_mnist", [f"run.dir={tmp_path}", override])
    run = RunDir(config.run.dir)
    run.admit(config, type(params), "hash")
    run.checkpoints.save(1, {}, state={}, metrics={})
    result = call(args[0], str(tmp_path), *args[1:])
    assert (result.returncode, message in result.stderr) == (code, True), result.stderr
    assert not loaded(result) & HEAVY


@pytest.mark.parametrize("args", [[], *([name] for name in COMMANDS)], ids=str)
def test_help_loads_click_alone(args):
    result = call(*args, "--help")
    assert result.returncode == 0
    heavy = HEAVY | {"numpy", "rich", "pydantic", "yaml", "safetensors", "prometheus_client"}
    assert not loaded(result) & heavy


def test_version_is_told():
    import trainer

    assert call("--version").stdout == f"trainer, version {trainer.__version__}\n"


@pytest.mark.parametrize(
    "args",
    [
        ["trian"],
        ["train"],
        ["train", "-c"],
        ["train", "--no-such-option"],
        ["export", "run", "--format", "onnx"],
        ["checkpoints", "list"],
        ["data", "prepare", "mnist"],
        ["completion", "tcsh"],
    ],
    ids=" ".join,
)
def test_wrong_usage_ends_with_2(args):
    assert call(*args).returncode == 2


def test_the_nearest_command_is_named():
    assert "did you mean 'train'?" in call("trian").stderr


def test_the_line_of_a_command_in_the_list_is_its_own():
    import click

    for name, (_, line) in COMMANDS.items():
        command = trainer_command.get_command(click.Context(trainer_command), name)
        first = (command.help or "").split("\n\n")[0].replace("\n", " ")
        assert first.split()[0] == line.split()[0], name


def test_every_help_has_examples():
    from scripts.generate_docs import command_help

    assert [path for path, text in command_help() if "Examples:" not in text] == []


def test_json_is_one_document(run_dir):
    for args in (["recipes", "list"], ["data", "list"], ["checkpoints", "list", str(run_dir)]):
        assert json.loads(call(*args, "--json").stdout)


def test_completion_names_the_commands():
    environ = {**os.environ, "_TRAINER_COMPLETE": "bash_complete", "COMP_WORDS": "trainer che"}
    result = subprocess.run(
        [sys.executable, "-m", "trainer"], cwd=ROOT, env={**environ, "COMP_CWORD": "1"},
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert result.stdout == "plain,checkpoints\n"
