"""docs/own_data.md: its commands are understood, and train as they stand."""

import json
import shlex
import subprocess
import sys

import click
import pytest

from tests.own_files import rows, write_csv, write_images
from tests.pages import commands_of, files_of, read_page, run_commands, write_files
from trainer.cli.root import trainer_command
from trainer.recipes.catalog import load_run

PAGE = read_page("own_data.md")
LINES = [shlex.split(line) for line in commands_of(PAGE).splitlines()]


def test_two_commands_for_each():
    assert [line[1] for line in LINES] == ["data", "train"] * 2


@pytest.mark.parametrize("line", LINES, ids=" ".join)
def test_a_command_is_understood(line):
    command, context = trainer_command, click.Context(trainer_command)
    words = line[1:]
    while isinstance(command, click.Group):
        command = command.get_command(context, words.pop(0))
    options = command.make_context(line[1], words).params
    if line[1] == "train":
        load_run(options["config_name"], options["overrides"])


@pytest.mark.long
@pytest.mark.timeout(600)
def test_the_page_is_run_as_it_stands(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    write_images(tmp_path / "photos", 300)
    table = [row | {"kind": row["digit"]} for row in rows(300)]
    write_csv(
        tmp_path / "wine.csv", [{k: v for k, v in row.items() if k != "digit"} for row in table]
    )
    run_commands(PAGE, tmp_path)
    for run in ("photos", "wine"):
        summary = json.loads((tmp_path / "runs" / run / "summary.json").read_text())
        assert summary["complete"]
        assert summary["test"]["accuracy"] > 0.5
    ask_the_models(tmp_path, table)


def ask_the_models(folder, table):
    """Most of what they were trained on, they know."""
    assert list(files_of(PAGE)) == ["image.py", "rows.py"]
    write_files(PAGE, folder)

    def ask(script, *arguments):
        command = [sys.executable, script, *arguments]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        said = [line.rpartition(" ") for line in done.stdout.splitlines()]
        assert all(0 < int(share.removesuffix("%")) <= 100 for _, _, share in said)
        return [name for name, _, _ in said]

    [digit] = ask("image.py", sorted(folder.glob("photos/0/*.png"))[0])
    assert digit in set("0123456789")
    found = ask("rows.py", "wine.csv")
    assert sum(name == row["kind"] for name, row in zip(found, table, strict=True)) > 200
