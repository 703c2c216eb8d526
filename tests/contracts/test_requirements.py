"""The locked requirements hold nothing of a machine and suit every supported platform."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
FILES = ("cpu", "gpu", "dev")
LINUX = [("linux", "x86_64"), ("linux", "aarch64")]
PLATFORMS = {"cpu": [*LINUX, ("darwin", "arm64")], "gpu": LINUX}
PLATFORMS["dev"] = PLATFORMS["cpu"]
TENSORFLOW = {"tensorflow", "tensorflow-cpu"}
CASES = [(f, s, m, py) for f in FILES for s, m in PLATFORMS[f] for py in ("3.11", "3.12", "3.13")]


def text(name: str) -> str:
    return (ROOT / "requirements" / f"{name}.txt").read_text()


def entries(name: str) -> list[tuple[Requirement, int]]:
    """Each requirement of a file with the number of its hashes."""
    blocks = re.split(r"^(?=[A-Za-z0-9])", text(name), flags=re.MULTILINE)[1:]
    return [(Requirement(b.split("\\")[0]), b.count("--hash=sha256:")) for b in blocks]


def wanted(name: str, environment: dict[str, str]) -> set[str]:
    """What pyproject.toml asks for directly in an environment."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    lines = project["dependencies"] + extras["gpu" if name == "gpu" else "cpu"]
    lines += extras["dev"] + extras["jax"] if name == "dev" else []
    asked = map(Requirement, lines)
    return {
        canonicalize_name(r.name) for r in asked if not r.marker or r.marker.evaluate(environment)
    }


@pytest.mark.parametrize("name", [*FILES, "build", "torch", "release"])
def test_no_address_or_path_of_a_machine(name):
    assert not re.search(
        r"https?:|--index|--find-links|^#.*/(work|home|root|tmp)/", text(name), re.M
    )


@pytest.mark.parametrize("name", [*FILES, "build", "torch", "release"])
def test_every_requirement_is_pinned_and_hashed(name):
    loose = [str(r) for r, hashes in entries(name) if not hashes or "==" not in str(r.specifier)]
    assert entries(name)
    assert not loose


def test_wheels_are_built_with_the_versions_of_development():
    assert entries("build")
    assert {str(r) for r, _ in entries("build")} <= {str(r) for r, _ in entries("dev")}


@pytest.mark.parametrize(("name", "system", "machine", "python"), CASES)
def test_every_platform_gets_one_version_of_all_it_asks_for(name, system, machine, python):
    environment = {
        "sys_platform": system,
        "platform_machine": machine,
        "platform_python_implementation": "CPython",
        "python_version": python,
        "python_full_version": f"{python}.0",
    }
    here = [r.name for r, _ in entries(name) if r.marker.evaluate(environment)]
    assert len(here) == len(set(here))
    assert wanted(name, environment) <= set(here)
    assert len(TENSORFLOW & set(here)) == 1
