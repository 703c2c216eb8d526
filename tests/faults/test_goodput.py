"""The ledger of real runs: injected causes are in it, and all sum to the wall time."""

import os
import signal
import time
from datetime import datetime
from itertools import pairwise

import pytest

from tests.fault_proxy import Fault
from tests.faults.groups import (
    Agents,
    at_the_gate,
    finish,
    gate,
    open_gate,
    wait_until,
    worker_of,
)
from tests.faults.harness import Run, storage_fault
from tests.faults.test_metrics_faults import labelled
from trainer.goodput import CAUSES
from trainer.run.ledger import read
from trainer.storage import open_storage

# Beside what was injected there is what a step, a save or a start takes anyway.
SECOND = 1.0


def ledger(run):
    """Of a run that has ended: a chain of lives that belong together."""
    found = read(open_storage(run.url))
    for before, after in pairwise(found.generations):
        assert before.end == pytest.approx(after.start, abs=0.001)
    for life in found.generations:
        assert sum(life.seconds.values()) == pytest.approx(life.end - life.start, abs=0.001)
        assert min(life.seconds.values()) >= 0
    assert sum(found.seconds.values()) == pytest.approx(found.wall_seconds)
    return found


def when(event):
    return datetime.fromisoformat(event["timestamp"]).timestamp()


def linger(seconds):
    args = {"seconds": seconds}
    return {"name": "tests.faults.inject:Linger", "args": args, "stateless": True}


def test_a_run_that_nothing_happens_to(run):
    started = time.time()
    assert run.start(command="train").wait() == 0, run.lives[0].text()
    seconds = time.time() - started
    found = ledger(run)
    assert found.wall_seconds == pytest.approx(seconds, abs=0.01 * seconds + SECOND)
    (life,) = found.generations
    assert (life.reason, life.step, life.workers) == ("complete", 18, 1)
    happened = {cause for cause, value in found.seconds.items() if value > 0}
    assert happened >= {"startup", "restore", "compile", "step", "validation", "checkpoint"}
    assert not happened & {"redone", "gathering"}
    # Nothing is left to do, and nobody held the run for that.
    assert run.start(command="train").wait() == 0
    assert ledger(run) == found


@pytest.mark.parametrize("stalled", [2, pytest.param(10, marks=pytest.mark.long)])
def test_a_stall_of_the_last_save_is_a_stall_of_the_checkpoint(run, stalled):
    fault = storage_fault("stall", 1, "create", seconds=stalled)
    life = run.start(command="train", storage=fault, checkpoint__every_steps=1000)
    assert life.wait() == 0, life.text()
    assert len(run.fired()) == 1
    assert ledger(run).seconds["checkpoint"] == pytest.approx(stalled, abs=SECOND)


@pytest.mark.long
@pytest.mark.needs_gcs
@pytest.mark.parametrize("stalled", [2, 10])
def test_a_stall_of_the_bucket_at_the_last_save(run_in_store, proxy, stalled):
    run = run_in_store
    proxy.faults.append(Fault("slow", r"POST /upload.*COMMIT", stalled))
    life = run.start(command="train", checkpoint__every_steps=1000)
    assert life.wait() == 0, life.text()
    assert proxy.num_fired("slow") == 1
    found = ledger(run)
    assert found.seconds["checkpoint"] == pytest.approx(stalled, abs=SECOND)
    assert found.generations[-1].reason == "complete"


@pytest.mark.long
def test_slow_saves_that_training_waits_for(run):
    fault = storage_fault("stall", 1, "create", seconds=1, times=3)
    life = run.start(command="train", storage=fault, checkpoint__background=False)
    assert life.wait() == 0, life.text()
    assert len(run.fired()) == 3
    assert ledger(run).seconds["checkpoint"] == pytest.approx(3, abs=SECOND)


@pytest.mark.parametrize(
    ("per_call", "seconds"),
    [(1, 2), *(pytest.param("auto", n, marks=pytest.mark.long) for n in (2, 5))],
)
def test_a_slow_input_is_waited_for(run, per_call, seconds):
    # Of 250 blocks; while earlier ones are read, a step and then a call of several are compiled.
    fault = storage_fault(
        "stall", 230, "read", seconds=seconds, folder="fashion_mnist", path="fashion"
    )
    life = run.start(
        command="train", storage=fault, data__cache="stream", data__disk_cache_mb=0,
        data__train="train[:5000]", data__validation=None, data__test=None, train__epochs=1,
        checkpoint__every_steps=1000, train__steps_per_call=per_call,
    )  # fmt: skip
    assert life.wait() == 0, life.text()
    assert len(run.fired()) == 1
    assert ledger(run).seconds["data_wait"] == pytest.approx(seconds, abs=SECOND)


def test_a_killed_worker_redoes_its_steps(run):
    slow = 0.3
    life = run.start(
        command="train", callbacks=[linger(slow), gate(run, at=8)], train__steps_per_call=1,
        checkpoint__every_steps=1000, train__epochs=1,
    )  # fmt: skip
    wait_until(run.fired, "the gate")
    os.kill(worker_of(life), signal.SIGKILL)
    open_gate(run)
    assert life.wait() == 0, life.text()
    found = ledger(run)
    first, second = found.generations
    assert (first.reason, second.reason) == ("killed", "complete")
    # Of eight steps, the first compiled; what followed the eighth is the ninth's.
    assert first.seconds["step"] == pytest.approx(7 * slow, abs=SECOND)
    assert second.seconds["redone"] == pytest.approx(7 * slow, abs=SECOND)
    assert second.seconds["step"] == pytest.approx(1 * slow, abs=SECOND)
    assert first.seconds["down"] > 0
    assert second.seconds["restore"] > 0


@pytest.mark.long
def test_a_late_worker_is_waited_for(run):
    agents = Agents(run, settings={"train__epochs": 1})
    agents.start(0)
    begun = time.monotonic()
    wait_until(lambda: time.monotonic() - begun > 3, "the other one's time")
    agents.start(1)
    late = time.monotonic() - begun
    assert agents.codes() == [0, 0], agents.text()
    found = ledger(run)
    assert found.seconds["gathering"] == pytest.approx(late, abs=SECOND)
    assert [life.workers for life in found.generations] == [2]


@pytest.mark.long
def test_a_lost_leader_is_down_until_the_next_one(gated, calm):
    gated.kill(0)
    killed = time.time()
    gated.start(0)
    finish(gated, calm)
    found = ledger(gated.run)
    first, last = found.generations[0], found.generations[-1]
    assert (first.reason, last.reason) == ("lost", "complete")
    # The agents' own starts are not known to anybody.
    assert first.start + found.wall_seconds == pytest.approx(last.end, abs=0.01)
    assert first.end >= killed - 6


@pytest.mark.long
def test_a_worker_of_the_group_that_dies_ends_the_generation(gated, calm):
    gated.kill_worker(1)
    finish(gated, calm)
    first, last = ledger(gated.run).generations
    assert (first.reason, last.reason) == ("group", "complete")
    assert "worker 1" in first.detail or "killed" in first.detail
    assert first.seconds["gathering"] > 0


@pytest.mark.long
def test_a_stopped_run_is_down_until_it_goes_on(run):
    life = run.start(command="train", callbacks=[gate(run)], train__steps_per_call=1)
    wait_until(run.fired, "the gate")
    life.signal(signal.SIGTERM)
    life.wait_for("stopping")
    open_gate(run)
    assert life.wait() == 143, life.text()
    stopped = time.time()
    begun = time.monotonic()
    wait_until(lambda: time.monotonic() - begun > 2, "some time without the run")
    again = run.start(command="train", callbacks=[gate(run)])
    assert again.wait() == 0, again.text()
    first, second = ledger(run).generations
    assert (first.reason, second.reason) == ("stopped", "complete")
    assert first.seconds["down"] == pytest.approx(second.start - stopped, abs=SECOND)
    assert second.seconds.get("redone", 0) == 0


@pytest.mark.long
def test_the_page_says_what_the_group_is_at(run):
    agents = Agents(
        run, settings={"callbacks": [gate(run)], "metrics.enabled": True, "metrics.port": 0}
    )
    agents.start()
    at_the_gate(agents)
    pages = [labelled(agents.lives[index]) for index in (0, 1)]
    open_gate(run)
    assert agents.codes() == [0, 0], agents.text()
    for page in pages:
        assert page["trainer_phase", "step"] == 1
        assert page["trainer_phase", "gathering"] == 0
        assert page["trainer_generation", ""] == 1
        assert page["trainer_group_present_workers", ""] == 2
        assert page["trainer_group_wanted_workers", ""] == 2
        assert page["trainer_gathering_seconds_total", ""] > 0
    name = "trainer_goodput_seconds_total"
    assert {label for metric, label in pages[0] if metric == name} == set(CAUSES)
    assert pages[0][name, "gathering"] > 0
    assert pages[0][name, "compile"] > 0
    assert {page for (metric, _), page in pages[1].items() if metric == name} == {0}


def test_nobody_is_present_before_a_group_has_gathered(run):
    agents = Agents(run, settings={"metrics.enabled": True, "metrics.port": 0})
    agents.start(1)  # its leader never comes
    wanted, present = ((f"trainer_group_{word}_workers", "") for word in ("wanted", "present"))
    wait_until(lambda: wanted in labelled(agents.lives[1]), "the group's size")
    page = labelled(agents.lives[1])
    agents.lives[1].signal(signal.SIGTERM)
    assert agents.codes() == [143], agents.text()
    assert (page[wanted], page.get(present)) == (2, 0)


@pytest.mark.long
def test_a_script_has_its_own_time_and_that_of_its_fits(zygote, tmp_path):
    script = tmp_path / "twice.py"
    script.write_text(SCRIPT)
    settings = {"metrics.enabled": False, "checkpoint.every_steps": 2}
    run = Run(zygote, tmp_path, settings, script=(str(script),))
    assert run.start(command="train").wait() == 0, run.lives[0].text()
    found = ledger(run)
    (life,) = found.generations
    assert (life.reason, life.step) == ("complete", 8)
    # Two seconds before the first fit, one between both.
    assert found.seconds["startup"] >= 3
    assert found.seconds["startup"] < found.wall_seconds - found.seconds["compile"]
    assert min(found.seconds[cause] for cause in ("step", "compile", "validation")) > 0


SCRIPT = """
import time

import keras
import numpy as np

import trainer

time.sleep(2)
keras.utils.set_random_seed(1)
model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
model.compile("sgd", "mse")
x, y = np.ones((16, 4), "float32"), np.ones((16, 1), "float32")
trainer.fit(model, x, y, batch_size=8, epochs=2)
time.sleep(1)
trainer.fit(model, x, y, batch_size=8, epochs=2)
trainer.evaluate(model, x, y, batch_size=8)
"""
