"""`trainer checkpoints` on whole, damaged and unfinished checkpoints."""

import json
from functools import partial

import numpy as np
import pytest
from click.testing import CliRunner

from tests.small_data import flip_bit
from trainer.checkpoint.holder import this_holder
from trainer.checkpoint.lease import acquire
from trainer.checkpoint.store import CheckpointStore
from trainer.cli.root import trainer_command
from trainer.storage import open_storage

KEYS = {
    "step", "fence", "committed", "verified", "bytes", "sha256", "created", "metrics", "problem",
}  # fmt: skip


@pytest.fixture
def run_dir(tmp_path):
    """Steps 10, 20 and 30; 30 has no marker."""
    store = CheckpointStore(open_storage(str(tmp_path / "checkpoints")), clock=lambda: 1e9)
    for step in (10, 20, 30):
        arrays = {"model/0000/w": np.full((2, 3), step, np.float32)}
        state = {"position": {"step": step, "phase": "train"}, "callbacks": {}}
        store.save(step, arrays, state=state, metrics={"loss": 1 / step, "nan": float("nan")})
    (tmp_path / "checkpoints" / "step-00000030-f0" / "COMMIT").unlink()
    return tmp_path


def call(*args):
    return CliRunner().invoke(trainer_command, ["checkpoints", *map(str, args)])


def listed(run_dir, *args):
    return json.loads(call("list", run_dir, "--json", *args).stdout)


def damage(run_dir, step):
    (part,) = run_dir.glob(f"checkpoints/step-{step:08d}-f0/*/part-*")
    flip_bit(part, part.stat().st_size - 1)


def test_list_tells_what_holds(run_dir):
    damage(run_dir, 20)
    entries = listed(run_dir)
    assert [(e["step"], e["committed"], e["verified"]) for e in entries] == [
        (10, True, True), (20, True, False), (30, False, False),
    ]  # fmt: skip
    assert [bool(e["sha256"]) for e in entries] == [True, False, False]
    assert all(set(e) == KEYS for e in entries)


def test_list_tells_what_came_too_late(run_dir):
    """Another job took the run over after step 10; then the first one committed step 20."""
    lease = partial(acquire, open_storage(str(run_dir)), this_holder({"TRAINER_JOB_ID": "a"}))
    lease()
    lease().restored(0, 10)
    late = listed(run_dir)[1]
    assert (late["step"], late["committed"], late["verified"]) == (20, False, False)
    assert "committed after another job took the run over" in late["problem"]


@pytest.mark.parametrize("path", ["..", "link/../..", "./.././."])
def test_a_path_may_walk_upwards(path, run_dir, monkeypatch):
    folder = run_dir / "checkpoints"
    (folder / "link").symlink_to(folder / "step-00000010-f0")
    monkeypatch.chdir(folder)
    assert [entry["step"] for entry in listed(path)] == [10, 20, 30]


def test_list_has_what_the_manifest_says(run_dir):
    first = listed(run_dir)[0]
    assert first["metrics"] == {"loss": 0.1, "nan": None}
    assert (first["fence"], first["created"], len(first["sha256"])) == (0, 1e9, 64)
    files = (run_dir / "checkpoints" / "step-00000010-f0").rglob("*")
    assert first["bytes"] == sum(file.stat().st_size for file in files if file.is_file())


def test_list_without_reading_the_parts(run_dir):
    damage(run_dir, 20)
    assert [e["verified"] for e in listed(run_dir, "--no-verify")] == [None, None, False]


def test_table_for_people(run_dir):
    damage(run_dir, 20)
    lines = call("list", run_dir).stdout.splitlines()
    assert [line.split()[:2] for line in lines[2:]] == [
        ["10", "verified"], ["20", "damaged"], ["30", "not"],
    ]  # fmt: skip


def test_verify_says_so(run_dir):
    result = call("verify", run_dir)
    assert result.exit_code == 0
    assert "step 10: verified\nstep 20: verified\nstep 30: checkpoint" in result.stdout


def test_verify_names_each_problem(run_dir):
    damage(run_dir, 10)
    next(run_dir.glob("checkpoints/step-00000020-f0/*/part-*")).unlink()
    result = call("verify", run_dir)
    assert result.exit_code == 5
    assert "part-00000.safetensors differs from its checksum" in result.stdout
    assert "part-00000.safetensors is missing" in result.stdout
    problems = json.loads(call("verify", run_dir, "--json").stdout)["problems"]
    assert len(problems) == 2


@pytest.mark.parametrize("writer", ["../../other", "/etc", "a/b", ""])
def test_f69_a_marker_that_leads_elsewhere_is_damage(run_dir, writer):
    marker = run_dir / "checkpoints" / "step-00000020-f0" / "COMMIT"
    marker.write_text(json.dumps({**json.loads(marker.read_text()), "writer": writer}))
    assert listed(run_dir)[1]["verified"] is False
    assert call("verify", run_dir).exit_code == 5


def write_config(run_dir):
    (run_dir / "config.yaml").write_text(
        "{recipe: fashion_mnist, data: {url: /d, batch_size: 8}, train: {epochs: 1}}"
    )


@pytest.mark.parametrize(("which", "step"), [([], 20), (["last"], 20), (["10"], 10)])
def test_inspect(run_dir, which, step):
    write_config(run_dir)
    facts = json.loads(call("inspect", run_dir, *which, "--json").stdout)
    assert (facts["step"], facts["position"]["step"]) == (step, step)
    assert facts["arrays"] == [{"name": "model/0000/w", "shape": [2, 3], "dtype": "float32"}]
    assert "model/0000/w   2x3" in call("inspect", run_dir, *which).stdout


@pytest.mark.parametrize("which", ["99", "best", "newest"])
def test_inspect_what_is_not_there(run_dir, which):
    write_config(run_dir)
    assert call("inspect", run_dir, which).exit_code == 2


@pytest.mark.parametrize("command", ["list", "verify", "inspect"])
def test_no_run_there(tmp_path, command):
    result = call(command, tmp_path / "typo")
    assert result.exit_code == 2
    assert f"no run in {tmp_path}/typo" in result.stderr


def test_a_run_without_checkpoints(tmp_path):
    write_config(tmp_path)
    assert listed(tmp_path) == []
    assert call("list", tmp_path).stdout == f"no checkpoints in {tmp_path} yet\n"
