"""Agents of a group are told to stop: all save at one step, and go on with whoever comes back."""

import json
import os
import signal
from contextlib import suppress

import pytest

from tests.faults.groups import finish, is_running, open_gate, wait_until, worker_of
from tests.faults.harness import storage_fault


@pytest.mark.long
def test_f04_a_stopped_pod_leaves_and_the_other_agent_stays(gated, calm):
    stopped, other = gated.lives[1], gated.lives[0]
    stopped.signal(signal.SIGTERM)
    open_gate(gated.run)
    assert stopped.wait() == 143, gated.text()
    step = gated.run.committed()[-1]
    assert step > 4
    assert all(f"stopped at step {step}, saved" in life.text() for life in (stopped, other))
    gated.start(1)
    finish(gated, calm)
    assert [event["step"] for event in other.events("restore")] == [0, step]


@pytest.mark.long
def test_f04_a_stopped_leader_is_found_again(gated, calm):
    gated.lives[0].signal(signal.SIGTERM)
    open_gate(gated.run)
    assert gated.codes(0) == [143], gated.text()
    gated.start(0)
    finish(gated, calm)


def test_all_stop_and_all_go_on(gated, calm):
    for life in gated.lives.values():
        life.signal(signal.SIGTERM)
    open_gate(gated.run)
    assert gated.codes() == [143, 143], gated.text()
    gated.start()
    finish(gated, calm)


def test_f04_a_pod_that_stops_with_others_is_told_by_them_first_and_saves(gated, calm):
    """As when a Job is deleted. A second signal would end a worker at once."""
    gated.lives[1].signal(signal.SIGTERM)
    gated.lives[0].wait_for("stopping")
    gated.lives[0].signal(signal.SIGTERM)
    wait_until(lambda: len(gated.lives[0].events("stopping")) == 2, "its own signal")
    open_gate(gated.run)
    assert gated.codes() == [143, 143], gated.text()
    step = gated.run.committed()[-1]
    assert all(f"stopped at step {step}, saved" in life.text() for life in gated.lives.values())
    gated.start()
    finish(gated, calm)


def test_a_second_signal_ends_one_of_a_group_at_once(gated):
    worker = worker_of(gated.lives[1])
    gated.lives[1].signal(signal.SIGTERM)
    gated.lives[1].wait_for("stopping")
    gated.lives[1].signal(signal.SIGTERM)
    assert gated.codes(1, seconds=5) == [143], gated.text()
    assert not is_running(worker)
    assert gated.lives[1].events("worker killed")


def test_f08_a_stop_while_workers_start_ends_them_at_once(agents, calm):
    agents.start()
    agents.lives[0].wait_for("starting TensorFlow")
    agents.lives[1].signal(signal.SIGTERM)
    assert agents.codes(1, seconds=15) == [143], agents.text()
    agents.start(1)
    finish(agents, calm)


def test_f08_a_stop_while_nobody_else_is_there(agents):
    agents.start(1)
    agents.lives[1].wait_for("waiting for the leader")
    agents.lives[1].signal(signal.SIGTERM)
    assert agents.codes(1, seconds=5) == [143]
    assert agents.run.committed() == []


@pytest.mark.long
def test_f06_a_save_that_stalls_ends_with_the_grace(agents, calm):
    stalled = storage_fault("stall", 8, "write", seconds=40)
    agents.settings = {"train.grace_seconds": 2}
    agents.start(environ={"FAULT_STORAGE": json.dumps(stalled)})
    wait_until(agents.run.fired, "the save that stalls")
    committed = agents.run.committed()
    for life in agents.lives.values():
        life.signal(signal.SIGTERM)
    assert agents.codes(seconds=20) == [143, 143], agents.text()
    assert agents.run.committed() == committed
    agents.start()
    finish(agents, calm)


@pytest.mark.long
def test_a_worker_that_is_told_past_its_agent_begins_a_new_generation(gated, calm):
    """TensorFlow would wait for it; whoever did that wanted no end of the run."""
    worker = worker_of(gated.lives[1])

    def told_to_end():
        # A second one ends it at once, without a save; two that come together count as one.
        with suppress(ProcessLookupError):
            os.kill(worker, signal.SIGTERM)
        return not is_running(worker)

    wait_until(told_to_end, "the end of a worker that is told again and again")
    gated.lives[0].wait_for("worker restarts")
    finish(gated, calm)
    [restart] = gated.lives[1].events("worker restarts")
    assert restart["reason"] == "it was told to stop by somebody else"


@pytest.mark.long
def test_a_run_that_is_complete_is_seen_before_anybody_is_waited_for(agents, calm):
    """Its chief has written all, and its last word is late: the other pod may go by then."""
    late = storage_fault("stall", 3, "write", folder="/run", path="events/", seconds=30)
    agents.start(environ={"FAULT_STORAGE": json.dumps(late)})
    wait_until(agents.run.fired, "the last event")
    assert (agents.run.dir / "summary.json").exists()
    agents.lives[1].signal(signal.SIGTERM)
    assert agents.codes(1, seconds=20) == [143], agents.text()
    assert agents.codes(0, seconds=20) == [0], agents.text()
    assert agents.run.sha256() == calm.sha256()
