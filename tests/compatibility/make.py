"""Keeps what this version writes, for later versions to read: python -m tests.compatibility.make

Once for each release, before it is tagged. A folder that is there is never written again: what
users have on their disks does not change either.
"""

import hashlib
import json
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from safetensors.numpy import save_file

from trainer import __version__
from trainer.checkpoint.holder import this_holder
from trainer.checkpoint.restore import newest
from trainer.checkpoint.store import CheckpointStore
from trainer.storage import open_storage

FOLDER = Path(__file__).parent
SUMS = "SHA256SUMS"
CHARTS = FOLDER.parents[1] / "helm"
# Every kind of state: of an optimizer, of metrics in the middle of an epoch, of callbacks.
CONFIG = """\
recipe: digits
params: {units: 8}
run: {dir: run}
data:
  url: builtin:digits
  train: train[:1280]
  validation: train[1280:1408]
  test: test[:64]
  batch_size: 32
train:
  epochs: 10000
  steps_per_call: 1
checkpoint:
  every_steps: 5
  keep_last: 1
  best: {metric: val_loss}
callbacks:
  - {name: early_stopping, args: {patience: 5000}}
  - {name: reduce_lr_on_plateau, args: {patience: 2}}
metrics: {enabled: false}
export: {formats: []}
"""
STEPS_AN_EPOCH = 40
WORKERS = {"alone": (), "group": ("--workers", "2")}


def trainer(*args: str) -> list[str]:
    """The command line of a trainer of this Python."""
    return [sys.executable, "-m", "trainer", *args]


def last(run: Path) -> Any:
    """The newest checkpoint of a run, every byte of it checked."""
    return newest(CheckpointStore(open_storage(str(run / "checkpoints")))).checkpoint


def stop_within_an_epoch(folder: Path, *args: str) -> None:
    """Train an epoch and a part of one, until SIGTERM."""
    command = trainer("train", "-c", "config.yaml", *args)
    process = subprocess.Popen(command, cwd=folder)
    checkpoints = folder / "run" / "checkpoints"
    while not any(checkpoints.glob("step-0000004[5-9]*/COMMIT")) and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    if process.wait(60) != 128 + signal.SIGTERM:
        raise SystemExit(f"the run ended with {process.returncode}")


def keep(name: str, target: Path) -> None:
    """A stopped run, and the arrays that it comes to at its epoch's end."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "config.yaml").write_text(CONFIG)
        stop_within_an_epoch(folder, *WORKERS[name])
        stopped = last(folder / "run").manifest
        shutil.copytree(folder / "run", target / "run")
        epochs = stopped.step // STEPS_AN_EPOCH + 1
        command = trainer("train", "-c", "config.yaml", f"--set=train.epochs={epochs}")
        subprocess.run([*command, *WORKERS[name]], cwd=folder, check=True)
        end = last(folder / "run")
        save_file(end.arrays, target / "end.safetensors")
    expected = {"step": stopped.step, "sha256": stopped.sha256, "end": end.manifest.step}
    (target / "expected.json").write_text(json.dumps(expected | {"epochs": epochs}) + "\n")
    forget_machine(target / "run")


# What programs read of a complete run.
ASKED = {
    "status.json": ("runs", "status", "run", "--json"),
    "evaluate.json": ("evaluate", "run", "--json"),
    "checkpoints.json": ("checkpoints", "list", "run", "--json"),
}


def keep_complete(target: Path) -> None:
    """A run that has ended, with its exported model, and what commands say of it."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "config.yaml").write_text(CONFIG)
        short = ("--set=train.epochs=2", "--set=export.formats=[keras]")
        subprocess.run(trainer("train", "-c", "config.yaml", *short), cwd=folder, check=True)
        shutil.copytree(folder / "run", target / "run")
        for path in ((target / "run" / "summary.json"), *(target / "run").rglob("*.log")):
            path.write_text(path.read_text().replace(f"{folder}/", ""))
    forget_machine(target / "run")
    for file, command in ASKED.items():
        said = subprocess.run(trainer(*command), cwd=target, check=True, stdout=subprocess.PIPE)
        (target / file).write_bytes(said.stdout.replace(str(target).encode(), b""))


def forget_machine(run: Path) -> None:
    """Leave no fact of the machine that this is made on."""
    process = this_holder().process
    for path in (run / "lease.json", *(run / "events").iterdir()):
        text = path.read_text().replace(platform.platform(), platform.system())
        text = re.sub(rf"\b{re.escape(process.host)}\b", "host", text)
        path.write_text(text.replace(process.boot, "boot"))


def sums(folder: Path) -> str:
    """sha256 and path of every file but their own list, as sha256sum writes them."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != SUMS)
    return "".join(
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(folder).as_posix()}\n"
        for path in files
    )


def main() -> None:
    """Make the folder of this version."""
    target = FOLDER / __version__
    target.mkdir()
    (target / "config.yaml").write_text(CONFIG)
    show = trainer("config", "show", "-c", "config.yaml")
    resolved = subprocess.run(show, cwd=target, check=True, stdout=subprocess.PIPE).stdout
    (target / "resolved.yaml").write_bytes(resolved)
    for chart in CHARTS.iterdir():
        shutil.copy(chart / "values.yaml", target / f"{chart.name}-values.yaml")
    for name in WORKERS:
        keep(name, target / name)
    keep_complete(target / "complete")
    (target / SUMS).write_text(sums(target))


if __name__ == "__main__":
    main()
