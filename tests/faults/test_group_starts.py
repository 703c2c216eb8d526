"""How a group comes together: who is late, too early, or not needed any more."""

import os
import signal
import socket

import pytest

from tests.emulator import free_port
from tests.faults.groups import (
    Agents,
    at_the_gate,
    children_of,
    finish,
    gate,
    is_running,
    wait_until,
)
from tests.faults.surroundings import needs_mounts
from trainer.cluster import tf_config


@pytest.mark.long
@needs_mounts
def test_f51_names_that_resolve_late_are_waited_for(agents, calm, run):
    hosts = run.folder / "hosts"
    hosts.write_text(f"127.0.0.1 localhost {socket.gethostname()}\n")
    own = {"TRAINER_LEADER": f"leader.test:{agents.port}", "TRAINER_HOST": "127.0.0.1"}
    agents.start(hosts=hosts, environ=own)
    waiting = agents.lives[1].wait_for("waiting for the leader")
    assert waiting["leader"] == f"leader.test:{agents.port}"
    assert waiting["reason"] == "name does not resolve"
    assert not agents.lives[0].events("generation")
    with hosts.open("a") as file:
        file.write("127.0.0.1 leader.test\n")
    finish(agents, calm)


@pytest.mark.long
def test_workers_import_tensorflow_while_their_agents_gather(agents, calm):
    agents.start(1)
    waiting = agents.lives[1]
    waiting.wait_for("waiting for the leader")
    [early] = children_of(waiting)
    agents.start(0)
    assert waiting.wait_for("worker starts")["pid"] == early
    finish(agents, calm)


@pytest.mark.long
@pytest.mark.parametrize("end", ["killed", "stopped", "alone"])
def test_a_worker_that_came_too_early_keeps_nobody(agents, calm, end):
    agents.settings = {"cluster.wait_seconds": 2 if end == "alone" else 60}
    agents.start(1)
    waiting = agents.lives[1]
    waiting.wait_for("waiting for the leader")
    [early] = children_of(waiting)
    if end == "killed":
        os.kill(early, signal.SIGKILL)
        agents.start(0)
        finish(agents, calm)
        return
    if end == "stopped":
        waiting.signal(signal.SIGTERM)
    assert agents.codes(1, seconds=20) == [143 if end == "stopped" else 76]
    wait_until(lambda: not is_running(early), "the end of the worker")


def test_tf_config_names_the_group_and_its_ports(run, calm):
    ports = [free_port() for _ in range(2)]
    addresses = tuple(f"127.0.0.1:{port}" for port in ports)
    agents = Agents(run, settings={"callbacks": [gate(run)], "cluster.port": free_port()})
    for index in (0, 1):
        agents.start(index, environ={"TF_CONFIG": tf_config(addresses, index)})
    at_the_gate(agents)
    for port in ports:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    finish(agents, calm)


@pytest.mark.long
def test_f10_a_complete_run_needs_nobody_else(agents, calm, run):
    agents.train()
    before = {path: path.stat().st_mtime_ns for path in run.dir.rglob("*")}
    agents.start(1)
    assert agents.codes(1) == [0], agents.text()
    assert agents.lives[1].events("complete")
    assert before == {path: path.stat().st_mtime_ns for path in run.dir.rglob("*")}


@pytest.mark.long
def test_a_leader_that_completed_the_run_is_not_waited_for(run, calm):
    """As if its pod had gone between the summary and the word of it, and its successor was done."""
    Agents(run).train()
    agents = Agents(run, settings={"cluster.wait_seconds": 3})
    summary = (run.dir / "summary.json").rename(run.folder / "summary.json")
    agents.start(1)
    agents.lives[1].wait_for("waiting for the leader")
    summary.rename(run.dir / "summary.json")
    assert agents.codes() == [0], agents.text()
