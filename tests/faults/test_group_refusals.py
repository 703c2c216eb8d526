"""What ends a group, or keeps a worker out of it: the code of all, and an error that names why."""

import re
import socket
from importlib.metadata import version

import pytest

from tests.emulator import free_port
from tests.faults.groups import Agents, at_the_gate, gate, open_gate
from trainer.cluster import tf_config


@pytest.mark.long
def test_f12_failures_without_a_new_step_end_all_with_7(agents):
    agents.settings = {"callbacks": [{
        "name": "tests.faults.inject:SignalAt", "args": {"at": 3, "worker": 1}, "stateless": True,
    }]}  # fmt: skip
    agents.start()
    assert agents.codes() == [7, 7], agents.text()
    # Agents tell steps once a second, so the first failures may be counted at a lower step, each of
    # 0, 1 and 2 beginning anew. And a worker whose port was taken fails without the fault.
    assert 3 <= len(agents.run.fired()) <= 4 + 3, agents.text()
    [error] = agents.lives[0].events("error")
    assert "4 workers in a row failed without a new step" in error["message"]
    [ended] = agents.lives[1].events("run ended")
    assert ended["reason"] == error["message"]


@pytest.mark.parametrize(
    ("kind", "code", "index"),
    [
        pytest.param("DataError", 3, 1, marks=pytest.mark.long),
        ("NonFiniteError", 4, 0),
        pytest.param("DataError", 3, 0, marks=pytest.mark.long),
        pytest.param("NonFiniteError", 4, 1, marks=pytest.mark.long),
        *(
            pytest.param(kind, code, index, marks=pytest.mark.long)
            for kind, code in (("ConfigError", 2), ("CheckpointError", 5))
            for index in (0, 1)
        ),
    ],
)
def test_what_ends_one_worker_ends_all(agents, kind, code, index):
    fail = {"at": 3, "kind": kind, "worker": index}
    agents.settings = {"callbacks": [
        {"name": "tests.faults.inject:FailAt", "args": fail, "stateless": True}
    ]}  # fmt: skip
    agents.start()
    assert agents.codes() == [code, code], agents.text()
    [ended] = agents.lives[1 - index].events("run ended")
    assert ended["reason"] == f"the test wants a {kind}"
    assert ended["worker"] == index
    assert len(agents.run.fired()) == 1


def test_f52_a_group_whose_run_was_taken_over_ends_with_6(run):
    agents = Agents(run, settings={"callbacks": [gate(run)], "run.lease_seconds": 3})
    agents.start()
    at_the_gate(agents)
    run.take_over()
    agents.lives[0].wait_for("run lost")
    open_gate(run)
    assert agents.codes() == [6, 6], agents.text()
    assert run.committed() == [4]


def test_f45_a_peer_that_never_comes_is_named(agents):
    agents.settings = {"cluster.wait_seconds": 2}
    agents.start(0)
    assert agents.codes(0, seconds=20) == [76], agents.text()
    assert "worker 1 did not join generation 1 within 2 s (have 0)" in agents.text()


def test_f45_a_leader_that_never_comes_is_named(agents):
    agents.settings = {"cluster.wait_seconds": 2}
    agents.start(1)
    assert agents.codes(1, seconds=20) == [76], agents.text()
    assert f"the leader 127.0.0.1:{agents.port} was not reached within 2 s" in agents.text()


def test_f50_another_configuration_is_refused_with_its_key(agents):
    agents.settings = {"cluster.wait_seconds": 5}
    agents.start(0)
    agents.start(1, train__seed=7)
    assert agents.codes(1, seconds=20) == [2], agents.text()
    differs = "worker 1 differs from worker 0 in configuration key train.seed"
    assert differs in agents.lives[1].text()
    # Worker 0 waits for a right one.
    assert agents.codes(0, seconds=20) == [76]
    assert f"refused: {differs}" in agents.lives[0].events("error")[0]["message"]


@pytest.mark.long
def test_f50_another_version_is_refused_with_both(agents, tmp_path):
    """An image with another Keras: what is installed says so, before anything is imported."""
    other = tmp_path / "image" / "keras-0.0.1.dist-info"
    other.mkdir(parents=True)
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: keras\nVersion: 0.0.1\n")
    agents.settings = {"cluster.wait_seconds": 5}
    agents.start(0)
    agents.start(1, environ={"FAULT_PATH": str(other.parent)})
    assert agents.codes(1, seconds=20) == [2], agents.text()
    message = agents.lives[1].events("error")[0]["message"]
    assert "worker 1 differs from worker 0 in code_version" in message
    theirs, ours = re.findall(r"keras ([0-9.]+)", message)
    assert (theirs, ours) == ("0.0.1", version("keras"))
    assert agents.codes(0, seconds=20) == [76]
    assert "in code_version" in agents.lives[0].events("error")[0]["message"]


def test_another_secret_never_gets_in(agents):
    agents.settings = {"cluster.wait_seconds": 3}
    agents.start(0)
    agents.start(1, environ={"TRAINER_GROUP_SECRET": "what a stranger may think of"})
    assert agents.codes(seconds=20) == [76, 76], agents.text()
    assert "secret" in agents.lives[1].events("error")[0]["message"]
    message = agents.lives[0].events("error")[0]["message"]
    assert "worker 1 did not join" in message
    assert "refused: 127.0.0.1 left before it proved itself: has it another secret?" in message


def test_no_secret_is_a_matter_of_configuration(agents):
    agents.start(0, environ={"TRAINER_GROUP_SECRET": "short"})
    assert agents.codes(0) == [2]
    assert "TRAINER_GROUP_SECRET is too short" in agents.text()
    assert "short" not in agents.text().replace("too short", "")


def test_a_port_that_is_taken_is_named(agents):
    with socket.socket() as other:
        other.bind(("127.0.0.1", agents.port))
        other.listen()
        agents.start(0)
        assert agents.codes(0, seconds=20) == [2], agents.text()
    assert f"workers cannot gather at port {agents.port}" in agents.text()


def test_a_range_without_a_free_port_is_named(agents):
    """One port for two workers: worker 0's is taken, worker 1 has none."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        agents.settings = {"cluster.port_range": f"{taken}-{taken}"}
        agents.start()
        assert agents.codes(seconds=20) == [2, 2], agents.text()
    for index, life in agents.lives.items():
        said = life.events("error")[0]["message"]
        named = f"worker {index} finds no free port in its share of cluster.port_range {taken}"
        assert said == f"{named}-{taken}: choose another, or a larger one"


def test_several_replicas_of_a_worker_on_a_cpu_are_refused(agents):
    agents.settings = {"cluster.replicas": 2}
    agents.start()
    assert agents.codes() == [2, 2], agents.text()
    assert "cluster.replicas is 2, but on CPUs a worker of a group has one" in agents.text()


@pytest.mark.long
def test_a_port_of_tf_config_that_is_taken_is_named(agents):
    """It is given, so no other is looked for."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = f"127.0.0.1:{other.getsockname()[1]}"
        addresses = (f"127.0.0.1:{free_port()}", taken)
        agents.settings = {"cluster.port": agents.port, "cluster.wait_seconds": 3}
        for index in (0, 1):
            agents.start(index, environ={"TF_CONFIG": tf_config(addresses, index)})
        assert agents.codes(seconds=30) == [76, 2], agents.text()
    [error] = agents.lives[1].events("error")
    assert f"worker 1: its port {taken} is taken" in error["message"]
    assert "worker 1 did not join" in agents.text()
