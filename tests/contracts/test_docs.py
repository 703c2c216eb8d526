"""docs/ says what the source says."""

import ast
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.generate_docs import command_help, documents
from trainer import errors

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
STAGES = (
    "config -> cluster -> strategy -> data -> model -> restore -> callbacks -> train"
    " -> final save -> report"
)
ERRORS = [value for value in vars(errors).values() if isinstance(value, type)]


@pytest.mark.parametrize("path", documents(), ids=lambda path: path.name)
def test_generated_file_is_current(path):
    assert path.read_text() == documents()[path], "make docs"


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


def failures() -> str:
    return (DOCS / "failures.md").read_text()


def test_architecture_and_worker_list_the_same_stages():
    worker = ast.get_docstring(ast.parse((ROOT / "trainer" / "worker.py").read_text()))
    for text in (worker, (DOCS / "architecture.md").read_text()):
        assert STAGES in " ".join(text.replace("*", "").split())


def test_architecture_explains_every_stage_in_order():
    rows = re.findall(r"^\| ([a-z ]+) \| .* \| `", (DOCS / "architecture.md").read_text(), re.M)
    assert rows == STAGES.split(" -> ")


@pytest.mark.parametrize("path", sorted(DOCS.rglob("*.md")), ids=lambda path: path.name)
def test_paths_and_links_in_docs_exist(path):
    text = path.read_text()
    named = re.findall(r"`((?:trainer|docs|scripts|tests)/[\w./]*)`", text)
    linked = re.findall(r"\]\(([\w./-]+)\)", text)
    missing = [name for name in named if not (ROOT / name).exists()]
    missing += [link for link in linked if not (path.parent / link).exists()]
    assert not missing
