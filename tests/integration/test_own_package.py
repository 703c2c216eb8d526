"""What `trainer recipes new` writes is installed outside of the tree, found there, and trained."""

import json
import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEMPLATE = "trainer/recipes/template"
NAME = "my_digits"


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with the package, and an environment in which it is installed."""
    home = tmp_path_factory.mktemp("own")
    trainer(sys.executable, home, "recipes", "new", NAME)
    run(home, sys.executable, "-m", "venv", "--without-pip", "venv")
    # What the tests' environment has is seen there, too, and the trainer with it.
    (folder,) = (home / "venv" / "lib").glob("python*/site-packages")
    others = sysconfig.get_path("purelib")
    (folder / "others.pth").write_text(f"import site; site.addsitedir({others!r})\n")
    run(
        home, sys.executable, "-m", "pip", "--python=venv/bin/python", "install", "--no-index",
        "--no-deps", "--no-build-isolation", f"./{NAME}",
    )  # fmt: skip
    return home


def run(folder, *command, code=0):
    """Output of a command that must end with the code; nothing is imported by where it runs."""
    environ = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "TRAINER_"))}
    environ["PYTHONSAFEPATH"] = "1"
    done = subprocess.run(
        [str(word) for word in command], cwd=folder, env=environ, text=True, timeout=100,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert done.returncode == code, done.stdout
    return done.stdout


def trainer(python, folder, *args, code=0):
    return run(folder, python, "-m", "trainer", *args, code=code)


@pytest.fixture(scope="module")
def installed(home):
    """A function: arguments -> output of `trainer` in that environment."""
    return lambda *args, **more: trainer(home / "venv" / "bin" / "python", home, *args, **more)


def test_it_is_found_by_its_entry_point(home, installed):
    found = json.loads(installed("recipes", "list", "--json"))[-1]
    assert found == {"name": NAME, "path": f"{NAME}.recipe:recipe", "about": f"from {NAME}"}
    assert f"train -c {NAME}" in installed("recipes", "list")
    where = run(home, "venv/bin/python", "-c", f"import {NAME}; print({NAME}.__file__)")
    assert Path(where).is_relative_to(home / "venv")


@pytest.mark.long
def test_it_trains_by_its_name(home, installed):
    assert installed("config", "check", "-c", NAME) == f"ok: recipe {NAME}, run {NAME}\n"
    installed("train", "-c", NAME)
    summary = json.loads((home / "runs" / NAME / "summary.json").read_text())
    assert summary["test"]["accuracy"] > 0.87


@pytest.mark.long
def test_its_own_tests_pass(home):
    assert "2 passed" in run(home / NAME, home / "venv" / "bin" / "python", "-m", "pytest", "-q")


def test_its_dockerfile_has_nothing_to_complain_of(home):
    run(home / NAME, Path(sys.executable).with_name("hadolint"), "Dockerfile")


def test_a_second_of_its_name_is_refused(installed):
    said = installed("recipes", "new", NAME, "--dir", "other", code=2)
    assert f"there is a recipe '{NAME}' already" in said


def test_next_steps_are_told(home):
    said = trainer(sys.executable, home, "recipes", "new", "another_one", "--dir", "an other")
    *_, install, train, test = said.splitlines()
    assert install == "  python -m pip install -e 'an other[test]'"
    assert train == "  trainer train -c another_one"
    assert test == "  python -m pytest 'an other'"


def test_a_wheel_of_the_trainer_has_all_that_it_is_written_from(tmp_path):
    build = (sys.executable, "-m", "pip", "wheel", "--no-index", "--no-deps")
    run(tmp_path, *build, "--no-build-isolation", "--wheel-dir=.", ROOT)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as files:
        found = {name for name in files.namelist() if name.startswith(TEMPLATE)}
    there = {path for path in (ROOT / TEMPLATE).rglob("*") if path.is_file()}
    sources = {str(path.relative_to(ROOT)) for path in there if path.suffix != ".pyc"}
    assert found == sources
