"""Damaged, foreign and unwritable checkpoints."""

import contextlib
import ctypes
import json
import os
import shutil
import subprocess
import urllib.request
from pathlib import Path

import google_crc32c
import pytest

from tests.faults.harness import Run, signal_at

MS_RDONLY, MS_REMOUNT = 1, 32


def folder(run: Run, step: int) -> Path:
    return run.dir / "checkpoints" / f"step-{step:08d}-f1"


def part(run: Run, step: int) -> Path:
    (found,) = folder(run, step).glob("*/part-00000.safetensors")
    return found


def goes_on_from(run: Run, step: int, undisturbed: Run) -> list[str]:
    """The run falls back to `step`, ends like the undisturbed one; returns what was skipped."""
    life = run.train()
    assert life.code == 0, life.text()
    assert life.events("restore")[0]["step"] == step
    assert run.sha256() == undisturbed.sha256()
    return [event["reason"] for event in life.events("checkpoint skipped")]


def test_f14_truncated_part(halfway, undisturbed):
    with part(halfway, 9).open("r+b") as file:
        file.truncate(1000)
    (reason,) = goes_on_from(halfway, 8, undisturbed)
    assert "step-00000009" in reason
    assert "part-00000.safetensors has 1000 bytes" in reason


def test_f15_one_flipped_bit(halfway, undisturbed):
    data = bytearray(part(halfway, 9).read_bytes())
    data[len(data) // 2] ^= 1
    part(halfway, 9).write_bytes(data)
    (reason,) = goes_on_from(halfway, 8, undisturbed)
    assert "step-00000009" in reason
    assert "checksum" in reason


def test_f16_no_marker(halfway, undisturbed):
    (folder(halfway, 9) / "COMMIT").unlink()
    (reason,) = goes_on_from(halfway, 8, undisturbed)
    assert "step-00000009-f1 has no COMMIT marker" in reason


def test_f17_marker_but_a_part_is_missing_in_two(halfway, undisturbed):
    part(halfway, 9).unlink()
    part(halfway, 8).unlink()
    reasons = goes_on_from(halfway, 4, undisturbed)
    assert ["step-00000009" in reasons[0], "step-00000008" in reasons[1]] == [True, True]
    assert "part-00000.safetensors is missing" in reasons[0]


def test_f17_fallbacks_are_counted(halfway, tmp_path):
    part(halfway, 9).unlink()
    gate = {"name": "tests.faults.inject:GateAt", "stateless": True}
    gate["args"] = {"at": 1, "path": str(tmp_path / "open")}
    life = halfway.start(callbacks=[gate], metrics__enabled=True, metrics__port=0)
    life.wait_for("train")
    with urllib.request.urlopen(life.wait_for("metrics")["url"], timeout=10) as page:
        text = page.read().decode()
    (tmp_path / "open").touch()
    assert life.wait() == 0, life.text()
    assert "\ntrainer_checkpoint_fallbacks_total 1.0\n" in text
    assert "\ntrainer_checkpoint_restores_total 1.0\n" in text


def test_f19_all_damaged(halfway, undisturbed):
    for step in (4, 8, 9):
        part(halfway, step).unlink()
    life = halfway.train()
    assert life.code == 5, life.text()
    assert all(f"step-0000000{step}" in life.text() for step in (4, 8, 9))
    assert "checkpoint.start_over=true" in life.text()
    life = halfway.train(checkpoint__start_over=True)
    assert life.code == 0, life.text()
    assert halfway.sha256() == undisturbed.sha256(), life.text()


def test_f19_a_run_that_started_over_is_not_cleaned_away(halfway, undisturbed):
    for step in (4, 8, 9):
        part(halfway, step).unlink()
    life = halfway.train(
        checkpoint__start_over=True, checkpoint__background=False, callbacks=[signal_at(7)]
    )
    assert life.code == -9, life.text()
    assert halfway.committed() == [4]
    life = halfway.train()
    assert life.code == 0, life.text()
    assert life.events("restore")[0]["step"] == 4
    assert halfway.sha256() == undisturbed.sha256()


def test_f20_other_configuration(halfway):
    before = (halfway.dir / "config.yaml").read_bytes()
    life = halfway.train(params__units=9, data__batch_size=64)
    assert life.code == 5
    assert "params.units: 8 -> 9" in life.text()
    assert "data.batch_size: 32 -> 64" in life.text()
    assert "another run.dir" in life.text()
    assert "train.start_from" in life.text()
    assert (halfway.dir / "config.yaml").read_bytes() == before


def test_f20_other_shapes(halfway, run, tmp_path):
    other = Run(halfway.zygote, tmp_path / "other", {"params.units": 9})
    other.folder.mkdir()
    assert other.train(train__epochs=1).code == 0
    shutil.rmtree(other.dir / "checkpoints")
    shutil.copytree(halfway.dir / "checkpoints", other.dir / "checkpoints")
    life = other.train()
    assert life.code == 5, life.text()
    assert "dense/kernel: checkpoint float32 (49, 8), model float32 (49, 9)" in life.text()


def test_f20_a_changeable_key_needs_its_name(halfway):
    rate = {"params__learning_rate": 0.02}
    life = halfway.train(**rate)
    assert life.code == 5
    assert "--allow-change params.learning_rate" in life.text()
    life = halfway.train("--allow-change", "params.learning_rate", **rate)
    assert life.code == 0, life.text()
    assert halfway.last().arrays["optimizer/0001/adam/learning_rate"] == pytest.approx(0.02)
    changes = json.loads((halfway.dir / "run.json").read_text())["changes"]
    assert changes[0]["keys"]["params.learning_rate"] == [0.01, 0.02]


@pytest.mark.parametrize("number", [0, 2])
def test_f21_another_format(halfway, number):
    marker = folder(halfway, 9) / "COMMIT"
    commit = json.loads(marker.read_text())
    document = folder(halfway, 9) / commit["writer"] / "manifest.json"
    manifest = json.loads(document.read_text()) | {"format": number}
    document.write_text(json.dumps(manifest))
    crc = f"{google_crc32c.value(document.read_bytes()):08x}"
    marker.write_text(json.dumps(commit | {"manifest_crc32c": crc}))
    life = halfway.train()
    assert life.code == 5
    assert (
        f"step-00000009-f1 in {halfway.dir}/checkpoints has checkpoint format {number}"
        in life.text()
    )


def mount(folder: Path, *, size: int = 0, flags: int = 0) -> None:
    """A tmpfs of `size` bytes, or a change of its flags."""
    folder.mkdir(exist_ok=True)
    libc = ctypes.CDLL(None, use_errno=True)
    options = f"size={size}" if size else ""
    done = libc.mount(b"none", str(folder).encode(), b"tmpfs", flags, options.encode())
    if done != 0:
        leave_out = pytest.fail if os.environ.get("REQUIRE_TOOLS") else pytest.skip
        leave_out(f"mount: {os.strerror(ctypes.get_errno())} (needs root on Linux)")


@pytest.fixture
def disk(run):
    """run.dir as a file system of its own, of 1 MB."""
    mount(run.dir, size=1_000_000)
    yield run.dir
    subprocess.run(["umount", "-l", str(run.dir)], check=True)


def gates(*steps_and_paths: tuple[int, Path]) -> list[dict[str, object]]:
    name = "tests.faults.inject:GateAt"
    return [
        {"name": name, "args": {"at": at, "path": str(path)}, "stateless": True}
        for at, path in steps_and_paths
    ]


def fill(file: Path) -> None:
    """Write until the disk is full."""
    with file.open("wb", buffering=0) as filler, contextlib.suppress(OSError):
        while filler.write(b"0" * 4096):
            pass


def test_f24_disk_full(run, disk, undisturbed, tmp_path):
    filler = disk / "filler"
    life = run.start(
        callbacks=gates((1, tmp_path / "filled"), (6, tmp_path / "emptied")),
        train__steps_per_call=1,
    )
    life.wait_for("train")
    fill(filler)
    (tmp_path / "filled").touch()
    failed = life.wait_for("checkpoint of step 4 was not saved", by_prefix=True)
    filler.unlink()
    (tmp_path / "emptied").touch()
    assert life.wait() == 0, life.text()
    assert failed["level"] == "error"
    assert "disk full" in failed["event"]
    assert [e["step"] for e in life.events("checkpoint")] == [8, 9, 12, 16, 18]
    assert run.sha256() == undisturbed.sha256()


def test_f25_read_only_at_a_save(run, disk, undisturbed, tmp_path):
    life = run.start(
        callbacks=gates((1, tmp_path / "shut"), (6, tmp_path / "opened")), train__steps_per_call=1
    )
    life.wait_for("train")
    mount(disk, flags=MS_REMOUNT | MS_RDONLY)
    (tmp_path / "shut").touch()
    failed = life.wait_for("checkpoint of step 4 was not saved", by_prefix=True)
    mount(disk, flags=MS_REMOUNT)
    (tmp_path / "opened").touch()
    assert life.wait() == 0, life.text()
    assert failed["level"] == "error"
    assert [e["step"] for e in life.events("checkpoint")] == [8, 9, 12, 16, 18]
    assert run.sha256() == undisturbed.sha256()


def test_f25_read_only_at_the_start(run, disk):
    mount(disk, flags=MS_REMOUNT | MS_RDONLY)
    life = run.train()
    assert life.code == 2, life.text()
    assert "cannot be written" in life.text()
    assert not life.events("strategy")


def test_f41_nan_is_never_saved(run, undisturbed):
    nan = {"name": "tests.faults.inject:NanAt", "args": {"at": 6}, "stateless": True}
    life = run.train(callbacks=[nan])
    assert life.code == 4, life.text()
    assert run.fired()
    assert "loss is nan at step 7" in life.text()
    assert run.committed() == [4]
    life = run.train()
    assert life.code == 0
    assert run.sha256() == undisturbed.sha256()


def test_f41_nan_weights_at_the_save_itself(run, undisturbed):
    nan = {"name": "tests.faults.inject:NanAt", "args": {"at": 4}, "stateless": True}
    life = run.train(callbacks=[nan])
    assert life.code == 4, life.text()
    assert run.fired()
    assert run.committed() == []
    assert run.train().code == 0, run.lives[-1].text()
    assert run.sha256() == undisturbed.sha256()


def test_a_killed_run_leaves_no_temporary_files_for_ever(halfway):
    stray = folder(halfway, 9) / ".tmp-stray"
    stray.write_bytes(b"half a part")
    os.utime(stray, (0, 0))
    assert halfway.train(callbacks=[signal_at(99)]).code == 0
    assert not stray.exists()
