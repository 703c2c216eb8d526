"""What released versions wrote is read for ever: their configurations, and their runs go on.

Sums of floating-point numbers differ from processor to processor, so the sha256 is compared of what
is restored, and what training then comes to by closeness.
"""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from safetensors.numpy import load_file

from tests.charts.rendered import GROUP, rendered
from tests.compatibility.make import ASKED, CHARTS, SUMS, WORKERS, last, sums, trainer
from trainer import __version__
from trainer.checkpoint.format import crc32c, state_sha256
from trainer.cli.root import trainer_command
from trainer.config import parse_yaml
from trainer.errors import CheckpointError
from trainer.run.run_dir import RunDir

VERSIONS = sorted(path.parent for path in Path(__file__).parent.glob("*/config.yaml"))
RUNS = [version / name for version in VERSIONS for name in WORKERS]
IDS = [f"{run.parent.name}-{run.name}" for run in RUNS]


def leaves(tree: Any, path: str = "") -> dict[str, Any]:
    """Values by dotted path."""
    if not isinstance(tree, dict):
        return {path: tree}
    below = [leaves(value, f"{path}.{key}") for key, value in tree.items()]
    return {key: leaf for found in below for key, leaf in found.items()}


def expected(kept: Path) -> dict[str, Any]:
    return json.loads((kept / "expected.json").read_text())


def shown(file: Path) -> dict[str, Any]:
    """What this version makes of a configuration."""
    done = CliRunner().invoke(trainer_command, ["config", "show", "-c", str(file)])
    assert done.exit_code == 0, done.output
    return leaves(parse_yaml(done.output, "output"))


@pytest.mark.parametrize("version", VERSIONS, ids=lambda path: path.name)
@pytest.mark.parametrize("file", ["config.yaml", "resolved.yaml", "alone/run/config.yaml"])
def test_a_configuration_is_taken_and_means_the_same(version, file):
    recorded = leaves(parse_yaml((version / "resolved.yaml").read_text(), "resolved.yaml"))
    # A key that came later may be there, too.
    assert recorded == {k: v for k, v in shown(version / file).items() if k in recorded}


@pytest.mark.needs_helm
@pytest.mark.parametrize("version", VERSIONS, ids=lambda path: path.name)
@pytest.mark.parametrize(("chart", "own"), [("trainer", GROUP), ("trainer-monitoring", {})])
def test_the_charts_take_a_releases_values(version, chart, own):
    values = f"--values={version / chart}-values.yaml"
    assert "kind: " in rendered(own, values, chart=CHARTS / chart)


@pytest.mark.parametrize("kept", RUNS, ids=IDS)
def test_a_run_is_read_to_the_byte(kept):
    checkpoint = last(kept / "run")
    assert checkpoint.manifest.step == expected(kept)["step"]
    assert state_sha256(checkpoint.arrays) == expected(kept)["sha256"]


@pytest.mark.parametrize(
    "kept",
    [
        pytest.param(run, id=name, marks=pytest.mark.long if run.name == "group" else ())
        for run, name in zip(RUNS, IDS, strict=True)
    ],
)
def test_a_run_goes_on(kept, tmp_path):
    shutil.copytree(kept / "run", tmp_path / "run")
    shutil.copy(kept.parent / "config.yaml", tmp_path)
    epochs = f"--set=train.epochs={expected(kept)['epochs']}"
    command = trainer("train", "-c", "config.yaml", epochs, *WORKERS[kept.name])
    done = subprocess.run(command, cwd=tmp_path, text=True, capture_output=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (restore,) = [line for line in done.stdout.splitlines() if '"event": "restore"' in line]
    assert json.loads(restore)["step"] == expected(kept)["step"]
    end, wanted = last(tmp_path / "run"), load_file(kept / "end.safetensors")
    assert (end.manifest.step, end.arrays.keys()) == (expected(kept)["end"], wanted.keys())
    # Not of metrics: a tie that another processor decides otherwise counts as a whole.
    for name in filter(lambda name: name.startswith(("model/", "optimizer/")), wanted):
        np.testing.assert_allclose(end.arrays[name], wanted[name], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("version", VERSIONS, ids=lambda path: path.name)
@pytest.mark.parametrize("file", [*ASKED, "summary.json"])
def test_what_programs_read_of_a_complete_run_is_said_as_ever(version, file, tmp_path):
    kept = version / "complete"
    shutil.copytree(kept / "run", tmp_path / "run")
    if file == "summary.json":
        # The trainer says so itself, where there is nothing left to do.
        command = trainer("train", "-c", str(kept / "run" / "config.yaml"), "--json")
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=100)
        said = json.loads(done.stdout.splitlines()[-1])
        wanted = json.loads((kept / "run" / file).read_text())
    else:
        done = subprocess.run(trainer(*ASKED[file]), cwd=tmp_path, capture_output=True, timeout=100)
        said, wanted = json.loads(done.stdout), json.loads((kept / file).read_text())
    assert done.returncode == 0, done.stderr
    assert_says(said, wanted)


# Of the moment and the place at which it is asked.
PASSING = {"url", "eta_seconds"}


def assert_says(said: Any, wanted: Any) -> None:
    """Every field that is wanted; further ones are no matter."""
    if isinstance(wanted, dict):
        assert wanted.keys() <= said.keys()
        for key in wanted.keys() - PASSING:
            assert_says(said[key], wanted[key])
    elif isinstance(wanted, list):
        assert len(said) == len(wanted)
        for one, other in zip(said, wanted, strict=True):
            assert_says(one, other)
    else:
        assert said == (pytest.approx(wanted, rel=1e-4) if isinstance(wanted, float) else wanted)


def change(path: Path, **fields: Any) -> bytes:
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))
    return path.read_bytes()


@pytest.fixture
def later(tmp_path):
    """A run as a later version with formats of its own would leave it."""
    shutil.copytree(RUNS[0] / "run", tmp_path / "run")
    for commit in (tmp_path / "run").glob("checkpoints/*/COMMIT"):
        (manifest,) = commit.parent.glob("*/manifest.json")
        change(commit, format=2, manifest_crc32c=crc32c(change(manifest, format=2)))
    change(tmp_path / "run" / "run.json", format=2)
    return tmp_path / "run"


def test_later_formats_are_named_and_refused(later):
    with pytest.raises(CheckpointError, match="checkpoint format 2, this version reads format 1"):
        last(later)
    with pytest.raises(CheckpointError, match=r"run\.json .* has format 2, this version reads 1"):
        print(RunDir(str(later)).id)


@pytest.mark.parametrize("version", VERSIONS, ids=lambda path: path.name)
def test_what_is_kept_never_changes(version):
    assert (version / SUMS).read_text() == sums(version)


def test_this_version_is_kept():
    assert __version__ in [version.name for version in VERSIONS]
