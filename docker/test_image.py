"""Runs the image IMAGE as the chart does: `make image-test`, or with IMAGE set, pytest docker.

With a read-only root, as the user 10001, without rights and without a network (F74).
"""

import json
import os
import re
import subprocess
import time
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name

import trainer
from docker.container import Image
from tests.contracts.test_requirements import entries
from trainer.recipes.new import write_package

ROOT = Path(__file__).parents[1]
TRAIN = ("train", "-c", "fashion_mnist", "--set", "run.dir=/runs/one")
THREE_STEPS = (*TRAIN, "--set", "data.train=train[:192]", "--set", "train.epochs=1")
# 237 steps.
THREE_EPOCHS = (*TRAIN, "--set", "train.epochs=3", "--set", "export.formats=[]")
# Source modules that were imported, and whose bytecode is not there.
UNCOMPILED = """
import sys, trainer.cli.train, trainer.worker, importlib.util, pathlib
files = [m.__file__ for m in list(sys.modules.values()) if getattr(m, "__file__", None)]
sources = [f for f in files if f.endswith(".py") and pathlib.Path(f).is_file()]
bare = [f for f in sources if not pathlib.Path(importlib.util.cache_from_source(f)).is_file()]
print(len(sources) > 1000, bare)
"""
# All of its Python's environment, and that Python's version.
PACKAGES = """
import json, platform, re
from importlib.metadata import distributions
found = {re.sub("[-_.]+", "-", d.name).lower(): d.version for d in distributions()}
print(json.dumps(found | {"python": platform.python_version()}))
"""


@pytest.fixture(scope="session")
def image():
    assert "IMAGE" in os.environ, "IMAGE names no image to test: make image-test"
    return Image(os.environ["IMAGE"])


@pytest.fixture
def runs(tmp_path):
    """Options that give a container a folder which outlives it."""
    folder = tmp_path / "runs"
    folder.mkdir()
    folder.chmod(0o777)  # this user's, and the image's user writes there
    return (f"--volume={folder}:/runs",)


def events(output: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in output.splitlines() if line.startswith("{")]


def last_weights(output: str) -> object:
    return [event["sha256"] for event in events(output) if event["event"] == "checkpoint"][-1]


def test_its_packages_are_those_that_are_locked(image):
    """... as `make sbom` lists them, beside the trainer and what every environment has."""
    found = json.loads(image.run("-c", PACKAGES, options=("--entrypoint=python",)).stdout)
    variant = "gpu" if "nvidia-nccl-cu12" in found else "cpu"
    version = {"python_full_version": found["python"], "python_version": found["python"][:4]}
    locked = [each for each, _ in entries(variant) if each.marker.evaluate(version)]
    wanted = {each.name: str(each.specifier)[2:] for each in locked}
    assert {name: found[name] for name in found.keys() - {"pip", "python"}} == wanted | {
        "trainer-k8s": trainer.__version__
    }


def test_all_that_it_consists_of_is_listed(image):
    """... by `make image-sbom`: each package of its Python, and each of its base, Debian."""
    script = [str(ROOT / "scripts" / "image.sh"), "sbom"]
    environ = os.environ | {"IMAGE": image.name, "ENGINE": image.engine}
    written = subprocess.run(script, env=environ, stdout=subprocess.PIPE, text=True, check=True)
    bill = json.loads((ROOT / written.stdout.splitlines()[-1]).read_text())
    listed = [
        (each["purl"].partition("/")[0], each["name"], each["version"])
        for each in bill["components"]
        if "purl" in each
    ]
    packages = {(canonicalize_name(n), v) for kind, n, v in listed if kind == "pkg:pypi"}
    found = json.loads(image.run("-c", PACKAGES, options=("--entrypoint=python",)).stdout)
    del found["python"]
    assert found.items() <= packages
    query = ("-W", "-f", "${Package} ${Version}\\n")
    base = image.run(*query, options=("--entrypoint=dpkg-query",)).stdout
    debian = {(name, version) for kind, name, version in listed if kind == "pkg:deb"}
    assert {tuple(line.split()) for line in base.splitlines()} == debian != set()
    assert bill["metadata"]["component"]["name"] == image.name


def test_version(image):
    result = image.run("--version")
    assert result.stdout == f"trainer, version {trainer.__version__}\n", result.stderr


def test_labels(image):
    labels = json.loads(image.configuration("{{json .Config.Labels}}"))
    assert labels["org.opencontainers.image.version"] == trainer.__version__
    assert re.fullmatch("[0-9a-f]{40}(-dirty)?", labels["org.opencontainers.image.revision"])


def test_f74_numeric_user_and_the_command_alone(image):
    said = image.configuration("{{.Config.User}} {{json .Config.Entrypoint}}")
    assert said == '10001:10001 ["trainer"]'


def test_f74_root_is_read_only_and_tmp_is_home(image):
    script = 'touch /app/x; touch "$HOME/x" && id --user --name && pwd && env'
    result = image.run("-c", script, options=("--entrypoint=sh",))
    assert "/app/x': Read-only file system" in result.stderr
    assert result.stdout.startswith("trainer\n/app\n")
    assert "HOME=/tmp\n" in result.stdout


def test_neither_compiler_nor_what_was_built_from(image):
    script = "for name in cc gcc make; do command -v $name; done; cd /; ls -A / /root"
    result = image.run("-c", script, options=("--entrypoint=sh", "--user=0"))
    found = set(result.stdout.split())
    assert {"app", "opt"} <= found, result.stderr
    assert not found & {"source", "wheels", "build", "build.txt", "requirements.txt", ".cache"}
    assert not [path for path in found if path.startswith("/") and not path.endswith(":")]


def test_all_that_is_imported_is_compiled(image):
    result = image.run("-c", UNCOMPILED, options=("--entrypoint=python",))
    assert result.stdout == "True []\n", result.stderr


def test_doctor(image):
    result = image.run("doctor", "-c", "fashion_mnist", "--set", "run.dir=/tmp/runs", "--json")
    assert result.returncode == 0, result.stderr
    assert all(finding["ok"] for finding in json.loads(result.stdout))


@pytest.mark.parametrize("user", ["10001:10001", "987654321:0"])
def test_f74_three_steps(image, runs, user):
    result = image.run(*THREE_STEPS, options=(*runs, f"--user={user}"))
    assert result.returncode == 0, result.stderr
    assert events(result.stdout)[-1]["steps"] == 3


def test_sigterm_saves_and_the_same_command_goes_on(image, runs):
    with image.start(*THREE_EPOCHS, options=runs) as stopped:
        stopped.wait_for('"first step"')
        assert stopped.terminate() == 143
    resumed = image.run(*THREE_EPOCHS, options=runs)
    assert resumed.returncode == 0, resumed.stderr
    restored = next(e for e in events(resumed.stdout) if e["event"] == "restore")
    assert 0 < restored["step"] < 237
    undisturbed = image.run(*THREE_EPOCHS, "--set", "run.dir=/tmp/runs")
    assert last_weights(resumed.stdout) == last_weights(undisturbed.stdout)


def test_sigterm_ends_other_commands_at_once(image, tmp_path):
    (tmp_path / "slow.py").write_text('import signal\nprint("here", flush=True)\nsignal.pause()')
    config = Path(trainer.__file__).parent / "recipes" / "fashion_mnist.yaml"
    text = config.read_text().replace("recipe: fashion_mnist", "recipe: slow:recipe")
    (tmp_path / "slow.yaml").write_text(text)
    tmp_path.chmod(0o755)
    with image.start(
        "config", "check", "-c", "slow.yaml", options=(f"--volume={tmp_path}:/app",)
    ) as container:
        container.wait_for("here")
        assert container.terminate() == 143


def test_pid_1_waits_for_orphans(image):
    with image.start(
        *THREE_EPOCHS, "--set", "run.dir=/tmp/runs", "--set", "train.epochs=500"
    ) as container:
        container.wait_for('"first step"')
        orphan = container.execute("sh", "-c", "sleep 0 & echo $!").stdout.strip()
        assert orphan.isdigit()
        deadline = time.monotonic() + 40
        while container.execute("test", "-d", f"/proc/{orphan}").returncode == 0:
            assert time.monotonic() < deadline, f"{orphan} is a zombie still"


def test_own_recipe_in_three_lines(image, tmp_path):
    block = re.search(
        r"```dockerfile\nFROM [^\n]*\n(.*?)```", (ROOT / "docs/image.md").read_text(), re.S
    )
    example = (ROOT / "docs" / "recipes.md").read_text()
    for language, name in (("python", "disc.py"), ("yaml", "disc.yaml")):
        found = re.findall(rf"`{name}` .*?```{language}\n(.*?)```", example, re.S)
        (tmp_path / name).write_text(found[0])
    dockerfile = f"FROM {image.name}\n{block[1]}"
    own = image.extended("trainer-test-own", dockerfile, tmp_path)
    result = own.run("config", "check", "-c", "disc.yaml")
    assert result.returncode == 0, result.stderr


def test_own_package_by_its_own_dockerfile(image, tmp_path):
    write_package("my_digits", tmp_path)
    written = (tmp_path / "Dockerfile").read_text()
    ours = f"TRAINER=trainer:{trainer.__version__}\n"
    assert ours in written
    dockerfile = written.replace(ours, f"TRAINER={image.name}\n")
    own = image.extended("trainer-test-package", dockerfile, tmp_path)
    short = ("--set", "run.dir=/tmp/runs", "--set", "train.epochs=1")
    result = own.run("train", "-c", "my_digits", *short)
    assert result.returncode == 0, result.stderr
    assert events(result.stdout)[-1]["steps"] == 21
    assert own.configuration("{{.Config.User}}") == "10001:10001"
