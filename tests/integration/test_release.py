"""What is published is whole: the wheel, the source distribution, and what they are run with."""

import json
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name

from tests.contracts.test_requirements import entries
from trainer import __version__

ROOT = Path(__file__).parents[2]
WHEEL = f"trainer_k8s-{__version__}-py3-none-any.whl"
INFO = f"trainer_k8s-{__version__}.dist-info/"


def run(folder, *command, code=0):
    """Output of a command that must end with the code; nothing is imported by where it runs."""
    environ = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "TRAINER_"))}
    environ["PYTHONSAFEPATH"] = "1"
    done = subprocess.run(
        [str(word) for word in command], cwd=folder, env=environ, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert done.returncode == code, done.stdout
    return done.stdout


def contents(wheel):
    with zipfile.ZipFile(wheel) as files:
        return {name: files.read(name) for name in files.namelist()}


@pytest.fixture(scope="module")
def dist(tmp_path_factory):
    """What `make dist` makes."""
    folder = tmp_path_factory.mktemp("dist")
    run(ROOT, sys.executable, "-m", "hatchling", "build", "--directory", folder)
    return folder


@pytest.mark.needs_git
def test_the_wheel_is_the_package_as_it_is_kept_and_nothing_else(dist):
    kept = run(ROOT, "git", "ls-files", "--cached", "--others", "--exclude-standard", "trainer")
    found = contents(dist / WHEEL)
    assert {name for name in found if not name.startswith(INFO)} == set(kept.split())


@pytest.mark.parametrize(
    "name",
    [
        "trainer/py.typed",
        "trainer/recipes/digits.yaml",
        "trainer/run/report/page.html",
        "trainer/data/embedded/digits/digits-train.tfrecord-00000-of-00001",
        f"{INFO}licenses/LICENSE",
        f"{INFO}licenses/trainer/data/embedded/mnist/NOTICE",
    ],
)
def test_the_wheel_has(dist, name):
    assert name in contents(dist / WHEEL)


def test_the_source_distribution_makes_the_same_wheel(dist, tmp_path):
    with tarfile.open(dist / f"trainer_k8s-{__version__}.tar.gz") as sources:
        sources.extractall(tmp_path, filter="data")
    (source,) = tmp_path.iterdir()
    run(source, sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path)
    assert contents(tmp_path / WHEEL) == contents(dist / WHEEL)


@pytest.fixture(scope="module")
def installed(dist, tmp_path_factory):
    """A function: arguments -> output of `trainer`, in an environment with what a user gets."""
    home = tmp_path_factory.mktemp("home")
    run(home, ROOT / "scripts" / "clean_venv.sh", home / "venv", "cpu", dist / WHEEL)
    return lambda folder, *args: run(folder, home / "venv" / "bin" / "trainer", *args)


@pytest.mark.long
@pytest.mark.timeout(600)
def test_the_wheel_alone_runs_and_trains(installed, tmp_path):
    assert installed(tmp_path, "--version") == f"trainer, version {__version__}\n"
    assert "train " in installed(tmp_path, "--help")
    small = ("data.train=train[:128]", "data.validation=null", "train.epochs=1")
    quiet = ("metrics.enabled=false", "run.dir=run")
    installed(tmp_path, "train", "-c", "digits", *(f"--set={key}" for key in small + quiet))
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert (summary["complete"], summary["steps"]) == (True, 2)
    assert (tmp_path / "run" / "model" / "model.keras").is_file()


@pytest.mark.long
@pytest.mark.timeout(600)
def test_the_bill_of_materials_names_what_is_locked(dist):
    file = run(ROOT, ROOT / "scripts" / "sbom.sh", dist).strip()
    text = Path(file).read_text()
    bill = json.loads(text)
    found = {canonicalize_name(each["name"]): each["version"] for each in bill["components"]}
    here = [each for each, _ in entries("cpu") if each.marker.evaluate()]
    assert found == {each.name: str(each.specifier)[2:] for each in here}
    assert bill["metadata"]["component"]["version"] == __version__
    assert str(ROOT) not in text
    assert "file:" not in text
