"""The image's recipe fits the project, and what `make image push` tells an engine to do.

The image itself is built and run by `make image-test`.
"""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

import trainer
from trainer.environment import KNOWN_VARIABLES

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "docker" / "Dockerfile").read_text()
VERSION = trainer.__version__


@pytest.fixture
def engine(tmp_path):
    """A `docker` that says what it is told."""
    program = tmp_path / "docker"
    program.write_text('#!/bin/sh\n[ "$*" = info ] || echo docker "$@"\n')
    program.chmod(0o755)
    return tmp_path


def image(action: str, engine: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [str(ROOT / "scripts" / "image.sh"), action]
    environ = {"PATH": f"{engine}:/usr/bin:/bin", "ENGINE": "docker", **variables}
    return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=30)


def test_base_has_a_python_that_is_supported():
    python = re.search(r"^ARG BASE=\S+python:([\d.]+)-slim-", DOCKERFILE, re.M)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert python
    assert python[1] in SpecifierSet(project["requires-python"])


def test_every_variant_has_its_requirements():
    stages = re.findall(r"^FROM \$\{BASE\} AS (cpu|gpu)$", DOCKERFILE, re.M)
    assert stages == ["cpu", "gpu"]
    assert all((ROOT / "requirements" / f"{stage}.txt").exists() for stage in stages)


def test_it_sets_no_variable_that_the_trainer_refuses():
    names = set(re.findall(r"\b(TRAINER_\w+)=", DOCKERFILE))
    assert not names - set(KNOWN_VARIABLES)


def test_build_for_the_cluster_from_any_laptop(engine):
    result = image("build", engine)
    build = next(line for line in result.stdout.splitlines() if "buildx build" in line)
    assert "--load --file docker/Dockerfile" in build
    assert "--platform linux/amd64" in build
    assert f"--build-arg VARIANT=cpu --build-arg VERSION={VERSION}" in build


@pytest.mark.parametrize(
    ("name", "variant", "built"),
    [
        ("", "cpu", f"trainer:{VERSION}"),
        ("", "gpu", f"trainer:{VERSION}-gpu"),
        ("r.example/x", "cpu", f"r.example/x:{VERSION}"),
        ("r.example:5000/x", "gpu", f"r.example:5000/x:{VERSION}-gpu"),
        ("r.example:5000/x:mine", "gpu", "r.example:5000/x:mine"),
    ],
)
def test_name(engine, name, variant, built):
    result = image("build", engine, IMAGE=name, VARIANT=variant)
    assert f"--tag {built} " in result.stdout
    assert result.stdout.endswith(f"Built {built}\n")


def test_push_tells_the_digest(engine):
    result = image("push", engine, IMAGE="r.example/x")
    assert f"docker push r.example/x:{VERSION}\n" in result.stdout
    assert "to pin it: docker image inspect" in result.stdout


def test_a_bill_of_materials_is_of_the_saved_image(engine):
    program = engine / "syft"
    program.write_text('#!/bin/sh\necho syft "$@"\n')
    program.chmod(0o755)
    result = image("sbom", engine, IMAGE="r.example:5000/x")
    saved = re.search(r"^docker save --output (\S+) (\S+)$", result.stdout, re.M)
    assert saved
    assert saved[2] == f"r.example:5000/x:{VERSION}"
    assert f"--source-name {saved[2]} " in result.stdout
    assert result.stdout.endswith(f"docker-archive:{saved[1]}\ndist/x-{VERSION}.cdx.json\n")


@pytest.mark.parametrize(
    ("action", "variables", "message"),
    [
        ("push", {}, f"IMAGE=trainer:{VERSION} names no registry"),
        ("build", {"VARIANT": "tpu"}, "VARIANT=tpu: use cpu or gpu"),
        ("build", {"ENGINE": "no-engine"}, "no no-engine that works here"),
    ],
)
def test_refusals_name_the_way_out(engine, action, variables, message):
    result = image(action, engine, **variables)
    assert result.returncode == 2
    assert message in result.stderr
