"""`trainer train --workers 2`: real agents, started again when they were killed."""

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.faults.groups import children_of, wait_until
from tests.faults.harness import ROOT, SMALL
from trainer.checkpoint.store import CheckpointStore
from trainer.storage import open_storage

pytestmark = pytest.mark.long  # each worker imports TensorFlow


class Launched:
    """The command, its output as it comes."""

    def __init__(self, folder: Path, fault: str, **args: Any) -> None:
        (folder / "run.yaml").write_text("train: {}\n")
        callback = {"name": f"tests.faults.inject:{fault}", "args": args, "stateless": True}
        keys = SMALL | {
            "callbacks": [callback], "run.dir": str(folder / "run"),
            "train.steps_per_call": 1, "checkpoint.background": False,
        }  # fmt: skip
        self.fault_log = folder / "faults.log"
        self.process = subprocess.Popen(
            [sys.executable, "-m", "trainer", "train", "-c", str(folder / "run.yaml"), "--json",
             "--workers=2", *(f"--set={key}={json.dumps(value)}" for key, value in keys.items())],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT,
            env=os.environ | {
                "PYTHONPATH": str(ROOT), "FAULT_LOG": str(self.fault_log),
                "FAULT_RECORDS": str(folder / "records"),
            },
        )  # fmt: skip
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        self.lines.extend(self.process.stdout)

    def wait(self) -> int:
        code = self.process.wait(100)
        self._reader.join(10)
        return code

    def close(self) -> None:
        self.process.kill()
        self.wait()
        self.process.stdout.close()

    @property
    def num_fired(self) -> int:
        return len(self.fault_log.read_text().splitlines()) if self.fault_log.exists() else 0


@pytest.fixture
def launched(tmp_path):
    launched = Launched(tmp_path, "GateAt", at=6, path=str(tmp_path / "gate"))
    try:
        wait_until(lambda: launched.num_fired == 2, "both workers at the gate")
        yield launched
    finally:
        launched.close()


@pytest.mark.parametrize("index", [0, 1], ids=["leader", "other"])
def test_a_killed_agent_is_started_again(launched, tmp_path, calm, index):
    os.kill(children_of(launched.process)[index], signal.SIGKILL)
    (tmp_path / "gate").touch()
    assert launched.wait() == 0, "".join(launched.lines)
    assert any('"agent restarts"' in line for line in launched.lines)
    store = CheckpointStore(open_storage(f"{tmp_path / 'run'}/checkpoints"))
    newest = [found for found in store.all() if found.committed][-1]
    assert store.manifest(newest.name).sha256 == calm.sha256()


@pytest.mark.parametrize("worker", [0, 1])
def test_it_ends_with_the_code_of_the_run(tmp_path, worker):
    launched = Launched(tmp_path, "FailAt", at=3, kind="NonFiniteError", worker=worker)
    try:
        assert launched.wait() == 4, "".join(launched.lines)
    finally:
        launched.close()
    assert launched.num_fired == 1
    errors = [line for line in launched.lines if "the test wants a NonFiniteError" in line]
    assert errors, "".join(launched.lines)


def test_failures_without_a_new_step_end_it_with_7(tmp_path):
    # Before a first step: of a later one, the agents may have heard or not.
    launched = Launched(tmp_path, "SignalAt", at=1, worker=1, hook="on_train_batch_begin")
    try:
        assert launched.wait() == 7, "".join(launched.lines)
    finally:
        launched.close()
    assert launched.num_fired >= 4
    assert any("4 workers in a row failed without a new step" in line for line in launched.lines)


def test_ctrl_c_saves_and_ends_all(launched, tmp_path):
    agents = children_of(launched.process)
    launched.process.send_signal(signal.SIGINT)
    (tmp_path / "gate").touch()
    assert launched.wait() == 130, "".join(launched.lines)
    assert any("saved" in line for line in launched.lines)
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in agents), "their end")
