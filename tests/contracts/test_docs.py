"""docs/ says what the source says."""

import ast
import json
import re
import shutil
import subprocess
import sys
from fnmatch import fnmatchcase
from pathlib import Path
from typing import get_args

import pytest

from bench.kept import read
from scripts.generate_docs import command_help, documents
from trainer import __version__, errors
from trainer.gathering.messages import EndCode
from trainer.recipes.catalog import RECIPES

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
DOCUMENTS = documents()
STAGES = (
    "config -> cluster -> strategy -> data -> model -> restore -> callbacks -> train"
    " -> final save -> report"
)
ERRORS_FILE = ROOT / "trainer" / "errors.py"
ERRORS = [value for value in vars(errors).values() if isinstance(value, type)]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_generated_file_is_current(path):
    assert path.read_text() == DOCUMENTS[path], "make docs"


def test_check_names_a_stale_file(tmp_path):
    for folder in ("docs", "scripts"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    with (tmp_path / "docs" / "metrics.md").open("a") as file:
        file.write("no such metric\n")
    script = tmp_path / "scripts" / "generate_docs.py"
    command = [sys.executable, str(script), "--check"]
    result = subprocess.run(command, cwd=ROOT, env={"PYTHONPATH": str(ROOT)}, capture_output=True)
    assert result.returncode == 1
    assert result.stderr.decode() == "docs/metrics.md is out of date: make docs\n"


MISSED = [
    result.name
    for _, results in read(ROOT / "bench" / "results" / "results.json")
    for result in results
    if not result.meets_aim
]


@pytest.mark.parametrize("name", MISSED)
def test_a_missed_aim_has_its_reason(name):
    _, _, reasons = (DOCS / "performance.md").read_text().partition("\n## Missed, and why\n")
    assert any(fnmatchcase(name, pattern) for pattern in re.findall("`([^`]+)`", reasons))


@pytest.mark.parametrize("path", [path for path, _ in command_help()])
def test_every_command_has_its_help_in_the_docs(path):
    assert f"## {path}\n" in (DOCS / "cli.md").read_text()


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.__name__)
def test_failures_gives_every_error_its_exit_code(error):
    rows = re.findall(r"^\| (\d+) \|.*`" + error.__name__ + "`", failures(), re.MULTILINE)
    assert rows == [str(error.exit_code)]


def test_failures_has_no_exit_code_that_nothing_has():
    codes = {int(code) for code in re.findall(r"^\| (\d+) \|", failures(), re.MULTILINE)}
    signals = {128 + 2, 128 + 13, 128 + 15}
    assert codes == {error.exit_code for error in ERRORS} | {0} | signals


def test_the_tree_of_errors_has_each_with_its_code():
    tree = re.findall(r"(\w+Error) +(\d+)  ", ast.get_docstring(ast.parse(ERRORS_FILE.read_text())))
    assert dict(tree) == {error.__name__: str(error.exit_code) for error in ERRORS}


def test_agents_tell_each_other_every_code_that_ends_a_run():
    assert get_args(EndCode) == (0, *errors.ENDS_RUN)


def test_every_packaged_recipe_has_its_row():
    rows = re.findall(r"^\| `(\w+)` \|", (DOCS / "recipes.md").read_text(), re.M)
    assert rows == list(RECIPES)


def failures() -> str:
    return (DOCS / "failures.md").read_text()


def test_architecture_and_worker_list_the_same_stages():
    worker = ast.get_docstring(ast.parse((ROOT / "trainer" / "worker.py").read_text()))
    for text in (worker, (DOCS / "architecture.md").read_text()):
        assert STAGES in " ".join(text.replace("*", "").split())


def test_the_log_of_a_start_lists_the_same_stages(tmp_path):
    settings = {"run.dir": tmp_path / "run", "train.epochs": 1, "data.train": "train[:64]"}
    options = [f"--set={key}={value}" for key, value in settings.items()]
    command = [sys.executable, "-m", "trainer", "worker", "-c", "digits", "--json", *options]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    stages = STAGES.split(" -> ")
    told = [json.loads(line)["event"] for line in result.stdout.splitlines()]
    assert [event for event in told if event in stages] == stages


def test_architecture_explains_every_stage_in_order():
    table = (DOCS / "architecture.md").read_text().partition("\n| stage |")[2].partition("\n\n")[0]
    rows = re.findall(r"^\| ([a-z ]+) \| .* \| `", table, re.M)
    assert rows == STAGES.split(" -> ")


@pytest.mark.parametrize("path", sorted(DOCS.rglob("*.md")), ids=lambda path: path.name)
def test_paths_and_links_in_docs_exist(path):
    text = path.read_text()
    named = re.findall(r"`((?:trainer|docs|scripts|tests)/[\w./]*)`", text)
    linked = re.findall(r"\]\(([\w./-]+)\)", text)
    missing = [name for name in named if not (ROOT / name).exists()]
    missing += [link for link in linked if not (path.parent / link).exists()]
    assert not missing


def named_in_source():
    """(page, name, file) of each link of docs/ from a name in backticks to a Python file."""
    for path in sorted(DOCS.rglob("*.md")):
        for name, link in re.findall(r"\[`([\w.]+)`\]\(([\w./-]+\.py)\)", path.read_text()):
            yield path.name, name, (path.parent / link).resolve()


def defined_in(file):
    """Functions, classes, constants and, as Class.method, methods."""
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, ast.Assign):
            yield from (target.id for target in node.targets if isinstance(target, ast.Name))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        if isinstance(node, ast.ClassDef):
            yield from (f"{node.name}.{each.name}" for each in node.body if hasattr(each, "name"))


@pytest.mark.parametrize(("page", "name", "file"), [*named_in_source()])
def test_what_docs_follow_through_the_code_is_there(page, name, file):
    assert name in {*defined_in(file), file.relative_to(ROOT).as_posix()}, page


def test_the_changelog_tells_of_this_version():
    headings = re.findall(r"^## \[(.*?)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings[:2] == ["Unreleased", __version__]


def test_architecture_follows_four_ways():
    page = (DOCS / "architecture.md").read_text()
    assert re.findall(r"^\*\*One (.*?)\*\*", page, re.M) == [
        "batch",
        "SIGTERM",
        "checkpoint",
        "metric",
    ]
    assert len([*named_in_source()]) > 40
