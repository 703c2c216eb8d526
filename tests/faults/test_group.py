"""Agents of a group: whoever is killed or stopped, the others wait for it and all go on."""

import json
import os
import signal
import socket
from itertools import pairwise

import numpy as np
import pytest

from tests.emulator import free_port
from tests.faults.groups import (
    Agents,
    at_the_gate,
    children_of,
    gate,
    is_running,
    open_gate,
    wait_until,
    worker_of,
)
from tests.faults.harness import Run, signal_at, storage_fault
from tests.faults.surroundings import needs_mounts
from tests.faults.test_mixed_precision import SETTINGS as OVERFLOWS
from tests.faults.test_mixed_precision import state
from trainer.cluster import tf_config


@pytest.fixture(scope="module")
def calm(zygote, tmp_path_factory):
    """Two workers that nothing happened to."""
    run = Run(zygote, tmp_path_factory.mktemp("calm"))
    agents = Agents(run)
    agents.train()
    assert "WARNING" not in agents.text()
    assert {event.get("level", "info") for event in run.lives[0].events()} == {"info"}
    return run


@pytest.fixture
def agents(run):
    return Agents(run)


@pytest.fixture
def gated(run):
    """Both workers after step 6, whose newest checkpoint is that of step 4."""
    agents = Agents(run, settings={"callbacks": [gate(run)]})
    agents.start()
    at_the_gate(agents)
    assert run.committed() == [4]
    return agents


def finish(agents, calm):
    """To the end, which is the same as if nothing had happened."""
    open_gate(agents.run)
    assert agents.codes() == [0] * agents.num_workers, agents.text()
    assert agents.run.sha256() == calm.sha256()
    assert agents.run.summary()["history"] == calm.summary()["history"]


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


# So is an agent that does not lead, in the test of one that goes on alone.
@pytest.mark.parametrize(
    "index", [pytest.param(0, id="leader"), pytest.param(1, id="other", marks=pytest.mark.long)]
)
def test_f43_the_agents_that_live_wait_for_the_one_that_was_killed(gated, calm, index):
    other = gated.lives[1 - index]
    worker = worker_of(other)
    gated.kill(index)
    # Long before TensorFlow would notice, and without a word of the killed one.
    wait_until(lambda: not is_running(worker), "the end of the other worker")
    gated.start(index)
    finish(gated, calm)
    assert [event["step"] for event in other.events("restore")] == [0, 4]


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


def test_f04_a_stopped_leader_is_found_again(gated, calm):
    gated.lives[0].signal(signal.SIGTERM)
    open_gate(gated.run)
    assert gated.codes(0) == [143], gated.text()
    gated.start(0)
    finish(gated, calm)


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


def test_all_stop_and_all_go_on(gated, calm):
    for life in gated.lives.values():
        life.signal(signal.SIGTERM)
    open_gate(gated.run)
    assert gated.codes() == [143, 143], gated.text()
    gated.start()
    finish(gated, calm)


def test_f10_a_complete_run_needs_nobody_else(agents, calm, run):
    agents.train()
    before = {path: path.stat().st_mtime_ns for path in run.dir.rglob("*")}
    agents.start(1)
    assert agents.codes(1) == [0], agents.text()
    assert agents.lives[1].events("complete")
    assert before == {path: path.stat().st_mtime_ns for path in run.dir.rglob("*")}


def test_f12_failures_without_a_new_step_end_all_with_7(agents):
    agents.settings = {"callbacks": [{
        "name": "tests.faults.inject:SignalAt", "args": {"at": 3, "worker": 1}, "stateless": True,
    }]}  # fmt: skip
    agents.start()
    assert agents.codes() == [7, 7], agents.text()
    assert len(agents.run.fired()) == 4
    [error] = agents.lives[0].events("error")
    assert "4 workers in a row failed without a new step" in error["message"]
    [ended] = agents.lives[1].events("run ended")
    assert ended["reason"] == error["message"]


@pytest.mark.parametrize(
    ("kind", "code", "index"),
    [
        ("DataError", 3, 1),
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


def test_f42_all_workers_skip_what_overflows_and_are_alike_after_a_kill(zygote, tmp_path):
    runs = [Run(zygote, tmp_path / name, OVERFLOWS) for name in ("run", "calm")]
    for run in runs:
        run.folder.mkdir()
    run, calm = runs
    noted = {"name": "tests.faults.inject:NoteBits", "args": {"every": 9}, "stateless": True}
    undisturbed = Agents(calm, settings={"callbacks": [noted]})
    undisturbed.train()
    bits = [line.split()[1:] for line in calm.fired()]
    assert sorted((at, worker) for at, worker, _ in bits) == [
        (at, worker) for at in ("18", "9") for worker in ("0", "1")
    ]
    assert len({(at, sha) for at, _, sha in bits}) == 2
    after = state(calm)
    assert all(np.all(np.isfinite(array)) for array in after.values())
    assert 2 <= 18 - after["iteration"] < 18, "no overflow, or nothing else"
    assert after["dynamic_scale"] < OVERFLOWS["params.scale"]
    disturbed = Agents(run, settings={"callbacks": [gate(run)]})
    disturbed.start()
    at_the_gate(disturbed)
    disturbed.kill_worker(1)
    finish(disturbed, calm)


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


@pytest.mark.parametrize("dies", [0, 1], ids=["chief", "other"])
def test_f48_a_worker_that_dies_during_the_save_leaves_one_checkpoint_or_the_other(
    agents, calm, dies
):
    stalled = storage_fault("stall", 3, "write create", seconds=30)
    agents.start(environ={"FAULT_STORAGE": json.dumps(stalled)})
    wait_until(agents.run.fired, "the save that stalls")
    agents.kill_worker(dies)
    # The chief's next worker saves without a stall as late as that.
    wait_until(lambda: len(agents.lives[0].events("restore")) == 2, "the next generation")
    assert [life.events("restore")[-1]["step"] for life in agents.lives.values()] == [0, 0]
    for index in (0, 1):
        agents.kill(index)
    agents.start()
    finish(agents, calm)


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


def test_f49_one_goes_on_alone_and_takes_the_other_in_when_it_comes_back(run):
    agents = Agents(run, settings={
        "callbacks": [gate(run), gate(run, 12, "late")], "cluster.min_workers": 1,
        "cluster.wait_seconds": 2, "train.epochs": 4,
    })  # fmt: skip
    agents.start()
    at_the_gate(agents)
    agents.kill(1)
    open_gate(run)
    # It goes on from step 4 alone, up to the next gate.
    wait_until(lambda: len(run.fired()) == 4, "the other one alone")
    agents.start(1)
    agents.lives[0].wait_for("workers outside")
    open_gate(run, "late")
    assert agents.codes() == [0, 0], agents.text()
    sizes = run.summary()["world_sizes"]
    assert [workers for _, workers in sizes] == [2, 1, 2]
    assert [e["workers"] for e in agents.lives[0].events("generation")] == [2, 1, 2]
    first, alone, together = (step for step, _ in sizes)
    assert (first, alone) == (0, 4)
    assert agents.lives[0].events("restore")[-1]["step"] == together
    # The undisturbed run of the same world sizes.
    calm = Run(run.zygote, run.folder / "calm")
    calm.folder.mkdir()
    replay(calm, sizes)
    assert run.sha256() == calm.sha256()
    assert run.summary()["history"] == calm.summary()["history"]


def replay(run, sizes):
    """A run that changes its number of workers where another one did, and nothing else."""
    settings = {"train__epochs": 4, "train__steps_per_call": 1, "checkpoint__background": False}
    for (start, workers), (end, _) in pairwise([*sizes, (None, None)]):
        # Several agree in the call after the signal.
        last = None if end is None else end - start - (workers > 1)
        callbacks = [] if last is None else [signal_at(last, "SIGTERM")]
        addresses = tuple(f"127.0.0.1:{free_port()}" for _ in range(workers))
        lives = [
            run.start(environ={"TF_CONFIG": tf_config(addresses, worker)}, callbacks=callbacks,
                      **settings)
            for worker in range(workers)
        ]  # fmt: skip
        codes = [life.wait() for life in lives]
        assert codes == [0 if end is None else 75] * workers, lives[0].text()
        assert end in (None, run.committed()[-1])


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


def test_workers_import_tensorflow_while_their_agents_gather(agents, calm):
    agents.start(1)
    waiting = agents.lives[1]
    waiting.wait_for("waiting for the leader")
    [early] = children_of(waiting)
    agents.start(0)
    assert waiting.wait_for("worker starts")["pid"] == early
    finish(agents, calm)


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


def test_a_last_save_that_fails_is_made_again_by_all(agents, calm):
    # The sixth marker is that of the last step.
    failing = storage_fault("fail", 6, "create")
    agents.start(environ={"FAULT_STORAGE": json.dumps(failing)})
    finish(agents, calm)
    assert [line.rpartition("/")[2] for line in agents.run.fired()] == ["COMMIT"]


def test_a_leader_that_completed_the_run_is_not_waited_for(run, calm):
    """As if its pod had gone between the summary and the word of it, and its successor was done."""
    Agents(run).train()
    agents = Agents(run, settings={"cluster.wait_seconds": 3})
    summary = (run.dir / "summary.json").rename(run.folder / "summary.json")
    agents.start(1)
    agents.lives[1].wait_for("waiting for the leader")
    summary.rename(run.dir / "summary.json")
    assert agents.codes() == [0], agents.text()
