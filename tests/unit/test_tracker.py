"""What is reported of a run, and what W&B's files are read back as."""

import json
import math
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.small_run import run_info
from trainer.callbacks import MlflowLogger, WandbLogger
from trainer.callbacks.reporter import Row, Service
from trainer.callbacks.run_info import RunInfo
from trainer.callbacks.tracker import Tracker, flat
from trainer.callbacks.wandb_file import WandbFile
from trainer.errors import ConfigError

WRITE = """
import wandb
run = wandb.init(id="0123456789abcdef", settings=wandb.Settings(silent=True, console="off"))
for step in range(1, 101):
    run.log({"loss": 1 / step, "text": "x" * (step * 7919 % 80_000)}, step=step, commit=True)
run.finish()
"""


class Remembering:
    """A service that keeps nothing beyond this process."""

    name = "remembering"

    def __init__(self) -> None:
        self.rows: list[tuple[int, dict[str, float]]] = []
        self.is_finished = False

    def connect(self) -> None:
        pass

    def send(self, rows: Sequence[Row]) -> None:
        self.rows += [(row.step, dict(row.values)) for row in rows]

    def has_kept(self, row: Row) -> bool:
        return False

    def finish(self) -> None:
        self.is_finished = True


class ToMemory(Tracker):
    """Reports there."""

    package = "json"

    def __init__(self, every_steps: int | None = None) -> None:
        super().__init__(every_steps)
        self.to = Remembering()

    def service(self, run: RunInfo) -> Service:
        return self.to


def trained(tracker: ToMemory, steps: range, **fields: Any) -> ToMemory:
    """It saw these steps, four of which are an epoch."""
    tracker.set_run(run_info(step=steps.start - 1, **fields))
    tracker.on_train_begin()
    for step in steps:
        tracker.on_train_batch_end((step - 1) % 4, {"loss": 1.0 / step})
        if step % 4 == 0:
            tracker.on_epoch_end(step // 4 - 1, {"loss": 1.0 / step, "val_loss": math.nan})
    return tracker


def test_epochs_are_reported_at_their_last_step_and_steps_now_and_then() -> None:
    tracker = trained(ToMemory(every_steps=3), range(1, 9))
    tracker.on_train_end()
    steps = {step: sorted(values) for step, values in tracker.to.rows}
    epoch = ["epoch", "loss", "val_loss"]
    assert steps == {3: ["batch/loss"], 4: epoch, 6: ["batch/loss"], 8: epoch}
    assert dict(tracker.to.rows)[8]["epoch"] == 2
    assert tracker.to.is_finished


def test_a_step_has_one_row() -> None:
    tracker = trained(ToMemory(every_steps=1), range(1, 5))
    tracker.on_train_end()
    assert [step for step, _ in tracker.to.rows] == [1, 2, 3, 4]
    assert {"batch/loss", "val_loss"} <= tracker.to.rows[-1][1].keys()


def test_what_may_be_lost_is_state_and_comes_in_the_next_life() -> None:
    state = json.loads(json.dumps(trained(ToMemory(every_steps=1), range(1, 4)).get_state()))
    again = ToMemory(every_steps=1)
    again.set_run(run_info(step=3, is_resumed=True))
    again.on_train_begin()
    again.set_state(state)
    again.on_train_end()
    assert again.to.rows == [(step, {"batch/loss": 1.0 / step}) for step in (1, 2, 3)]


def test_a_row_that_was_begun_before_a_stop_in_validation_gets_its_epoch() -> None:
    first = trained(ToMemory(every_steps=4), range(1, 4))
    first.on_train_batch_end(3, {"loss": 0.25})
    state = first.get_state()
    second = ToMemory(every_steps=4)
    second.set_run(run_info(step=4))
    second.on_train_begin()
    second.set_state(state)
    second.on_epoch_end(0, {"loss": 0.5})
    second.on_train_end()
    assert second.to.rows == [(4, {"batch/loss": 0.25, "loss": 0.5, "epoch": 1.0})]


def test_a_worker_that_does_not_write_reports_nothing() -> None:
    tracker = trained(ToMemory(every_steps=1), range(1, 5), writes=False)
    tracker.on_train_end()
    assert (tracker.to.rows, tracker.to.is_finished, tracker.get_state()) == ([], False, {})


@pytest.mark.parametrize(("kind", "package"), [(MlflowLogger, "mlflow"), (WandbLogger, "wandb")])
def test_a_missing_package_is_refused_with_its_extra(
    monkeypatch: pytest.MonkeyPatch, kind: type[Tracker], package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ConfigError, match=rf"pip install 'trainer-k8s\[{package}\]'"):
        kind().set_run(run_info())
    kind().set_run(run_info(writes=False))


def test_a_number_of_steps_is_checked() -> None:
    with pytest.raises(ValueError, match="every_steps is 0"):
        WandbLogger(every_steps=0)


def test_a_configuration_by_dotted_keys() -> None:
    tree = {"a": {"b": 1, "c": {"d": [1, {"e": 2}]}}, "f": {}}
    assert flat(tree) == {"a.b": 1, "a.c.d": [1, {"e": 2}], "f": {}}


@pytest.mark.long
def test_a_file_of_wandb_is_read_while_it_grows(tmp_path: Path) -> None:
    environ = {**os.environ, "WANDB_MODE": "offline", "WANDB_DIR": str(tmp_path)}
    subprocess.run([sys.executable, "-c", WRITE], env=environ, check=True, timeout=100)
    [whole] = tmp_path.glob("wandb/offline-run-*/*.wandb")
    data, grown = whole.read_bytes(), tmp_path / "grown"
    assert len(data) > 40 << 15
    file, last = WandbFile(grown), []
    for size in range(0, len(data) + 30_000, 30_000):
        grown.write_bytes(data[:size])
        last.append(file.last_step())
    assert last == sorted(last)
    assert (last[0], last[-1]) == (-1, 100)
    assert WandbFile(whole).last_step() == 100
    assert WandbFile(tmp_path / "none").last_step() == -1
