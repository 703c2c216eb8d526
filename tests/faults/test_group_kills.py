"""Workers and agents of a group are killed: the others wait, and all go on as if nothing was."""

import json
import os
import signal

import pytest

from tests.faults.groups import (
    Agents,
    at_the_gate,
    children_of,
    finish,
    gate,
    is_running,
    open_gate,
    wait_until,
    worker_of,
)
from tests.faults.harness import storage_fault


# A worker that is not the chief is killed in the test of the spare one, too.
@pytest.mark.parametrize(
    "index", [pytest.param(0, id="chief"), pytest.param(1, id="other", marks=pytest.mark.long)]
)
def test_f43_a_killed_worker_makes_a_new_generation(gated, calm, index):
    gated.kill_worker(index)
    finish(gated, calm)
    for life in gated.lives.values():
        [restart] = life.events("worker restarts")
        assert "killed (SIGKILL)" in restart["reason"]
        assert [event["step"] for event in life.events("restore")] == [0, 4]
    assert [e["number"] for e in gated.lives[0].events("generation")] == [1, 2]


# An agent that does not lead is killed in the test of one that goes on alone, too.
@pytest.mark.long
@pytest.mark.parametrize("index", [0, 1], ids=["leader", "other"])
def test_f43_the_agents_that_live_wait_for_the_one_that_was_killed(gated, calm, index):
    other = gated.lives[1 - index]
    worker = worker_of(other)
    gated.kill(index)
    # Long before TensorFlow would notice, and without a word of the killed one.
    wait_until(lambda: not is_running(worker), "the end of the other worker")
    gated.start(index)
    finish(gated, calm)
    assert [event["step"] for event in other.events("restore")] == [0, 4]


@pytest.mark.long
@pytest.mark.parametrize("late", [0, 1], ids=["chief", "other"])
def test_f47_workers_that_see_different_checkpoints_restore_the_same(run, calm, late):
    agents = Agents(run, settings={"callbacks": [gate(run, 11)]})
    agents.start()
    at_the_gate(agents)
    assert run.committed() == [4, 8, 9]
    for index in (0, 1):
        agents.kill(index)
    # To one of them, the newest is not there.
    hidden = storage_fault("hide", 1, "", hidden="step-00000009")
    agents.start(late, environ={"FAULT_STORAGE": json.dumps(hidden)})
    agents.start(1 - late)
    finish(agents, calm)
    assert [life.events("restore")[-1]["step"] for life in agents.lives.values()] == [8, 8]


# Ahead of the first marker; and behind the second one, which is there, when the first goes.
@pytest.mark.long
@pytest.mark.parametrize(
    ("dies", "at", "operations", "restored"),
    [
        pytest.param(0, 3, "write create", 0, id="chief"),
        pytest.param(1, 3, "write create", 0, id="other"),
        pytest.param(0, 1, "delete", 8, id="chief, committed"),
    ],
)
def test_f48_a_worker_that_dies_during_the_save_leaves_one_checkpoint_or_the_other(
    run, calm, dies, at, operations, restored
):
    agents = Agents(run, settings={"checkpoint.keep_last": 1})
    stalled = storage_fault("stall", at, operations, seconds=30)
    agents.start(environ={"FAULT_STORAGE": json.dumps(stalled)})
    wait_until(agents.run.fired, "the save that stalls")
    agents.kill_worker(dies)
    # The chief's next worker saves without a stall as late as that.
    wait_until(lambda: len(agents.lives[0].events("restore")) == 2, "the next generation")
    steps = [life.events("restore")[-1]["step"] for life in agents.lives.values()]
    assert steps == [restored, restored]
    for index in (0, 1):
        agents.kill(index)
    agents.start()
    finish(agents, calm)


@pytest.mark.long
def test_workers_that_hang_with_each_other_are_replaced_and_count_once(run, calm):
    agents = Agents(run, settings={"callbacks": [gate(run)], "run.hang_seconds": 6})
    agents.start()
    at_the_gate(agents)
    os.kill(worker_of(agents.lives[1]), signal.SIGSTOP)
    open_gate(run)
    for life in agents.lives.values():
        life.wait_for("worker restarts")
    assert json.loads((run.dir / "restarts.json").read_text())["failures"] == 1
    finish(agents, calm)
    # The one that was not stopped waited for it in a sum over both.
    assert "worker hangs" in agents.text()
    assert [e["number"] for e in agents.lives[0].events("generation")] == [1, 2]


@pytest.mark.long
def test_a_spare_worker_takes_over(run, calm):
    agents = Agents(run, settings={"callbacks": [gate(run)], "run.warm_spare": True})
    agents.start()
    at_the_gate(agents)
    life = agents.lives[1]
    wait_until(lambda: len(children_of(life)) == 2, "a spare")
    spare = children_of(life)[1]
    agents.kill_worker(1)
    life.wait_for("worker restarts")
    assert worker_of(life) == spare
    finish(agents, calm)
    assert not is_running(spare)


@pytest.mark.long
def test_a_last_save_that_fails_is_made_again_by_all(agents, calm):
    # The sixth marker is that of the last step.
    failing = storage_fault("fail", 6, "create")
    agents.start(environ={"FAULT_STORAGE": json.dumps(failing)})
    finish(agents, calm)
    assert [line.rpartition("/")[2] for line in agents.run.fired()] == ["COMMIT"]
