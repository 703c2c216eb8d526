"""An agent answers a signal at once, whatever its worker does."""

import os
import signal
import subprocess
import sys

import pytest

from tests.faults.harness import ROOT, SMALL, Life
from tests.faults.test_agent import agent, gate, wait_until, worker_of
from tests.faults.test_metrics_faults import scrape

# What an answer takes is measured by bench/responsiveness.py; here, there has to be one.
SECONDS = 5


@pytest.mark.long
def test_a_signal_while_the_worker_imports_is_answered(zygote, tmp_path):
    """By a command of its own: workers of the other tests have nothing left to import."""
    output, config = tmp_path / "output.txt", tmp_path / "run.yaml"
    config.write_text("train: {}\n")
    sets = [
        f"--set={key}={value}" for key, value in (SMALL | {"run.dir": tmp_path / "run"}).items()
    ]
    with output.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "trainer", "train", "-c", str(config), "--json", *sets],
            stdout=file, stderr=file, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)},
        )  # fmt: skip
    try:
        life = Life(zygote, process.pid, output)
        life.wait_for("starting TensorFlow")
        process.send_signal(signal.SIGTERM)
        life.wait_for("stopping", SECONDS)
        assert process.wait(20) == 143, life.text()
    finally:
        process.kill()
        process.wait()
    assert not life.events("config"), "the import was over"


@pytest.mark.long
def test_a_page_and_a_signal_while_the_worker_hangs_are_answered(run):
    served = {"metrics__enabled": True, "metrics__port": 0}
    life = agent(run, callbacks=[gate(run)], train__grace_seconds=1, **served)
    wait_until(run.fired, "the worker at the gate")
    wait_until(lambda: "trainer_steps_total" in scrape(life), "the worker's numbers")
    before = scrape(life)["trainer_steps_total"]
    os.kill(worker_of(life), signal.SIGSTOP)
    assert scrape(life)["trainer_steps_total"] == before
    life.signal(signal.SIGTERM)
    life.wait_for("stopping", SECONDS)
    assert life.wait(20) == 143, life.text()
    assert life.events("worker killed")
