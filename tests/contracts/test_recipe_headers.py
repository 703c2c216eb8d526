"""What stands at the head of a recipe's YAML: its commands can be typed, its promises are told."""

import json
import re
import shlex

import click
import pytest
from click.testing import CliRunner

from trainer.cli.root import trainer_command
from trainer.recipes import new
from trainer.recipes.catalog import RECIPES, config_path, load_plain, load_run

_COMMAND = re.compile(r"\btrainer ((?:train|data|config) (?:\\\n|[^\n,;])*)")
_OPTION = re.compile(r"--set ('[^']*'|\S*[^\s,.:;])")


def head_of(path):
    """The comment before the first key, without its signs."""
    lines = path.read_text().splitlines()
    return "\n".join(line[2:] for line in lines[: lines.index(f"recipe: {path.stem}")])


def parsed(line):
    """(name of the command, its values) as click reads them; nothing is run."""
    command, words = trainer_command, shlex.split(line)
    while isinstance(command, click.Group):
        command = command.get_command(click.Context(command), words.pop(0))
        assert command is not None, line
    return command.name, command.make_context(command.name, words).params


def commands_of(text):
    return [parsed(line.replace("\\\n", " ")) for line in _COMMAND.findall(text)]


@pytest.mark.parametrize("name", RECIPES)
def test_its_commands_can_be_typed(name):
    commands = commands_of(head_of(config_path(name)))
    assert commands[0][0] == "train"
    for command, values in commands:
        if command == "train":
            assert values["config_name"] == name
            load_run(name, values["overrides"])
        else:
            # Of this recipe's own data set, or of files of the reader's.
            assert command == "prepare"
            assert values["name"] == name or values["own"]


def options_of(name):
    """Those that it names outside of commands."""
    return _OPTION.findall(" ".join(_COMMAND.sub("", head_of(config_path(name))).split()))


@pytest.mark.parametrize(
    ("name", "option"), [(name, option) for name in RECIPES for option in options_of(name)]
)
def test_each_option_of_it_is_one(name, option):
    load_run(name, shlex.split(option))


def test_its_cost_and_its_result_are_those_that_are_listed():
    found = json.loads(CliRunner().invoke(trainer_command, ["recipes", "list", "--json"]).stdout)
    assert [recipe["name"] for recipe in found] == list(RECIPES)
    for recipe in found:
        head = head_of(config_path(recipe["name"])).splitlines()
        assert f"Cost: {recipe['cost']}" in head
        assert f"Expected: {recipe['expected']}" in head
        assert re.fullmatch(r"(a minute|\d+ seconds) on 2 cores", recipe["cost"])
        assert re.match(r"\w+ 0\.\d\d on the test ", recipe["expected"])


def test_the_commands_of_a_new_recipe_can_be_typed(tmp_path):
    written = new.write_package("blobs", tmp_path)
    (path,) = [path for path in written if path.name == "blobs.yaml"]
    text = head_of(path)
    assert [(name, values["config_name"]) for name, values in commands_of(text)] == [
        ("train", "blobs"),
        ("show", "blobs"),
    ]
    assert re.search(r"^Cost: \d+ seconds on 2 cores\nExpected: accuracy 0\.\d\d on ", text, re.M)
    assert load_plain(str(path)).run_name == "blobs"
