"""docs/how-to.md: its commands are understood, and do what the page says."""

import json
import shlex

import click
import pytest

from tests.pages import commands_of, files_of, read_page, run_commands, write_files
from trainer.checkpoint.store import CheckpointStore
from trainer.cli.root import trainer_command
from trainer.recipes.catalog import load_run
from trainer.storage import open_storage

PAGE = read_page("how-to.md")
LINES = [
    [word for word in shlex.split(line.partition("||")[0]) if word != "&"]
    for line in commands_of(PAGE).replace("\\\n", " ").splitlines()
    if line.startswith("trainer ")
]


def test_each_task_has_its_command():
    assert list(files_of(PAGE)) == ["my.yaml", "tell.py", "token.txt"]
    assert len([line for line in LINES if line[1] == "train"]) == 9
    assert len([line for line in LINES if line[1] == "debug"]) == 2


@pytest.mark.parametrize("line", LINES, ids=" ".join)
def test_a_command_is_understood(line, tmp_path, monkeypatch):
    write_files(PAGE, tmp_path)
    monkeypatch.chdir(tmp_path)
    command = trainer_command.get_command(click.Context(trainer_command), line[1])
    options = command.make_context(line[1], line[2:]).params
    if line[1] == "train":
        load_run(options["config_name"], options["overrides"])


@pytest.mark.long
@pytest.mark.timeout(600)
def test_the_page_is_run_as_it_stands(tmp_path):
    write_files(PAGE, tmp_path)
    run_commands(PAGE, tmp_path)
    runs = tmp_path / "runs"
    assert {folder.name for folder in runs.iterdir()} == {
        "first", "warm", "grown", "failed", "left", "right", "told", "traced",
    }  # fmt: skip
    complete = {folder.name for folder in runs.iterdir() if (folder / "summary.json").exists()}
    assert complete == {folder.name for folder in runs.iterdir()} - {"failed"}
    assert json.loads((runs / "first" / "summary.json").read_text())["epochs"] == 4
    [change] = json.loads((runs / "first" / "run.json").read_text())["changes"]
    assert change["keys"] == {"params.learning_rate": [0.001, 0.0005]}
    # Neither a trace nor a debugging changes what comes out; another seed does.
    assert sha256(runs / "traced") == sha256(runs / "left") != sha256(runs / "right")
    assert list((runs / "traced" / "plugins/profile").iterdir()) == [
        runs / "traced" / "plugins/profile" / "steps-30-34"
    ]
    stored = b"".join(path.read_bytes() for path in runs.rglob("*") if path.is_file())
    assert b"SERVICE" not in stored
    assert b"not-a-real-token" not in stored


def sha256(folder):
    """Of a run's last checkpoint."""
    store = CheckpointStore(open_storage(f"{folder}/checkpoints"))
    return store.read(store.all()[-1].name).manifest.sha256
