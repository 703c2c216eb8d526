"""Commands on configurations and data; the lines at the end of a run."""

import json
import os
import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.small_data import flip_bit, shard_name, write_dataset, write_files
from trainer.cli.root import trainer_command
from trainer.cli.summary import show_summary, train_command
from trainer.config import parse_yaml
from trainer.data.builtin import builtin_names
from trainer.errors import ConfigError
from trainer.launch import Outcome
from trainer.recipes.catalog import RECIPES, config_path, load_run

SUMMARY = {
    "run": "r", "steps": 158, "epochs": 2, "stopped_early": False, "model": ["/m/model.keras"],
    "validation": {}, "test": {"loss": 0.5, "accuracy": 0.81234},
}  # fmt: skip


def call(*args):
    return CliRunner().invoke(trainer_command, list(map(str, args)))


def test_config_show_is_complete_and_read_back(tmp_path):
    result = call("config", "show", "-c", "fashion_mnist", "--set", "train.epochs=7")
    (tmp_path / "run.yaml").write_text(result.stdout)
    again = call("config", "show", "-c", tmp_path / "run.yaml")
    assert again.stdout == result.stdout
    assert parse_yaml(result.stdout, "")["train"]["epochs"] == 7


def test_config_show_as_json():
    shown = json.loads(call("config", "show", "-c", "fashion_mnist", "--json").stdout)
    assert shown["params"]["learning_rate"] > 0


def test_config_check_says_ok():
    result = call("config", "check", "-c", "fashion_mnist", "--data")
    assert (result.exit_code, result.stdout) == (0, "ok: recipe fashion_mnist, run local\n")


@pytest.mark.parametrize(
    ("override", "code"),
    [
        ("params.filtres=3", 2),
        ("recipe=fashion_mnits", 2),
        ("recipe=no_such_module:recipe", 2),
        ("data.url=/nowhere", 3),
        ("data.test=tset", 2),
        ("data.url=builtin:fashion_mnits", 2),
    ],
)
def test_config_check_names_what_is_wrong(override, code):
    result = call("config", "check", "-c", "fashion_mnist", "--data", "--set", override)
    assert result.exit_code == code
    assert result.stderr.startswith("trainer: ")


def test_config_check_without_data_looks_for_none():
    result = call("config", "check", "-c", "fashion_mnist", "--set", "data.url=/nowhere")
    assert result.exit_code == 0


@pytest.mark.parametrize("name", ["fashion_mnits", "nowhere.yaml"])
def test_no_such_config(name):
    result = call("config", "show", "-c", name)
    assert result.exit_code == 2
    assert "give a file, or a recipe's name (fashion_mnist" in result.stderr


def test_data_verify(tmp_path):
    write_dataset(tmp_path, {"train": [5, 3]})
    assert call("data", "verify", tmp_path).exit_code == 0
    flip_bit(tmp_path / shard_name("train", 0, 2), 20)
    result = call("data", "verify", tmp_path)
    assert result.exit_code == 3
    assert f"{shard_name('train', 0, 2)}: record 0 at byte 0" in result.stderr
    found = json.loads(call("data", "verify", tmp_path, "--json").stdout)
    assert (found["ok"], bool(found["problems"])) == (False, True)


def test_data_verify_without_data(tmp_path):
    result = call("data", "verify", tmp_path / "nope")
    assert result.exit_code == 3
    assert result.stderr.startswith(f"trainer: no manifest.json in {tmp_path}/nope")
    assert "damaged" not in result.stderr


def test_data_that_is_only_written_names_the_command_that_makes_it_ready(tmp_path):
    write_files(tmp_path, {"train": [5, 3]})
    refused = call("worker", "-c", "fashion_mnist", "--set", f"data.url={tmp_path}")
    assert refused.exit_code == 3
    command = re.search(r"'trainer (data index [^']+)'", refused.stderr)[1].split()
    result = call(*command)
    assert result.exit_code == 0
    assert result.stderr.splitlines() == [
        f"indexed {shard_name('train', 0, 2)}: 5 records",
        f"indexed {shard_name('train', 1, 2)}: 3 records",
    ]
    assert f"ready: small 1.0.0 in {tmp_path} (train 8)" in result.stdout
    assert call("data", "verify", tmp_path).exit_code == 0
    again = json.loads(call(*command, "--json").stdout)
    assert again["splits"] == {"train": 8}


def test_recipes_are_told_with_data_parameters_and_expected_result():
    found = json.loads(call("recipes", "list", "--json").stdout)
    assert [recipe["name"] for recipe in found] == list(RECIPES)
    for recipe in found:
        assert recipe["data"].removeprefix("builtin:") in builtin_names()
        assert "on 2 cores" in recipe["cost"]
        assert re.search(r"\w+ \d\.\d+ on the test", recipe["expected"])
        assert {"name", "type", "default", "kind", "help"} == set(recipe["params"][0])
        assert {p["kind"] for p in recipe["params"]} <= {"identity", "changeable", "free"}
        assert {p["name"]: p["kind"] for p in recipe["params"]}["learning_rate"] == "changeable"


def test_unexpected_errors_say_how_to_see_more(monkeypatch):
    def fail():
        raise RuntimeError("what happened")

    monkeypatch.setattr("trainer.recipes.catalog.list_recipes", fail)
    result = call("recipes", "list")
    assert result.exit_code == 1
    assert "trainer: unexpected RuntimeError: what happened" in result.stderr
    assert "Traceback" not in result.stderr
    assert "Traceback" in call("--debug", "recipes", "list").stderr


def test_errors_are_json_where_json_is_wanted():
    result = call("checkpoints", "list", "/nowhere", "--json")
    said = json.loads(result.stderr)
    assert (said["event"], said["level"], said["code"]) == ("error", "error", 2)
    assert said["message"] == "no run in /nowhere: there is no config.yaml"
    assert result.stdout == ""


@pytest.mark.parametrize("args", [["--json"], []], ids=["asked", "no terminal"])
def test_errors_of_a_run_are_as_its_log(args):
    result = call("worker", "-c", "fashion_mnist", "--set", "data.url=/nowhere", *args)
    assert json.loads(result.stderr)["code"] == result.exit_code == 3
    as_text = ("--set", "log.format=text")
    result = call("worker", "-c", "fashion_mnist", "--set", "data.url=/nowhere", *as_text)
    assert result.stderr.startswith("trainer: no manifest.json in /nowhere")


def test_wrong_usage_is_json_where_json_is_wanted():
    said = json.loads(call("checkpoints", "list", "--json").stderr)
    assert (said["code"], said["message"]) == (2, "Missing argument 'RUN_DIR'.")


def summary(capsys, overrides=(), config_name="fashion_mnist", **facts):
    config, _, _ = load_run("fashion_mnist", overrides)
    outcome = Outcome(0, {**SUMMARY, **facts})
    show_summary(config, outcome, config_name, overrides)
    lines = capsys.readouterr().out.strip().splitlines()
    return {line[:15].strip(): line[15:] for line in lines}


@pytest.mark.parametrize(
    ("args", "hint"),
    [
        ("train --epochs 3", "--set train.epochs=VALUE sets it"),
        ("train --learning-rate 3", "as in --set params.learning_rate=VALUE"),
        ("train run.yaml", "Name a recipe or a YAML file, as in -c run.yaml"),
        ("train -c fashion_mnist --set train.epochs 3", "one word: --set train.epochs=VALUE"),
    ],
)
def test_a_line_that_is_refused_says_what_was_most_likely_meant(args, hint):
    result = call(*args.split())
    assert result.exit_code == 2
    assert hint in result.stderr


def test_where_no_keys_are_set_none_is_offered():
    assert "--set" not in call("runs", "list", "--epochs", "3", "runs").stderr


def test_summary_tells_the_result_and_where_it_is(capsys):
    shown = summary(capsys)
    assert shown["test"] == "loss 0.5000, accuracy 0.8123"
    assert shown["model"] == "/m/model.keras"
    assert shown["checkpoints"] == "runs/local/checkpoints"


@pytest.mark.parametrize(
    ("epochs", "shown"),
    [
        (2, "r: complete already"),
        (1, "r: complete already; train.epochs=1 asks for fewer than it has"),
    ],
)
def test_summary_of_a_run_that_was_complete(capsys, epochs, shown):
    config, _, _ = load_run("fashion_mnist", [f"train.epochs={epochs}"])
    show_summary(config, Outcome(0, SUMMARY, was_complete=True), "fashion_mnist", ())
    assert capsys.readouterr().out.strip().splitlines()[0][15:] == shown


def test_summary_repeats_the_options_that_were_given(capsys):
    given = ("run.dir=/tmp/a b", "train.epochs=2")
    words = shlex.split(summary(capsys, given, "my run.yaml")["train longer"])
    assert words == [
        "trainer", "train", "-c", "my run.yaml", "--set", "run.dir=/tmp/a b",
        "--set", "train.epochs=4",
    ]  # fmt: skip


def test_summary_offers_nothing_longer_when_a_callback_stopped(capsys):
    shown = summary(capsys, stopped_early=True, model=[])
    assert "train longer" not in shown
    assert shown["model"] == "not exported"


def test_summary_says_how_to_export_again(capsys):
    shown = summary(capsys, model=[], export_error="disk full")
    assert shown["export again"] == "trainer export runs/local"


def test_train_command_of_a_packaged_recipe():
    assert train_command("x", (), ("a=1",)) == "trainer train -c x --set a=1"


@pytest.mark.parametrize("kind", ["folder", "pipe"])
def test_a_config_that_is_no_file_is_said_to_be_none(tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    os.mkfifo("run.yaml") if kind == "pipe" else Path("run.yaml").mkdir()
    with pytest.raises(ConfigError, match=r"config 'run\.yaml' is no regular file"):
        config_path("run.yaml")
