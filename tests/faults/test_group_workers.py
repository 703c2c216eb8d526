"""Workers of a group, without agents: they train as one, stop as one, and go on as one."""

import signal

import numpy as np
import pytest

from tests.emulator import free_port
from tests.faults.harness import Run, signal_at
from trainer.cluster import tf_config


def start(run, *of_each, **settings):
    """Both workers, the chief first; `of_each` are settings of one of them alone."""
    addresses = tuple(f"127.0.0.1:{free_port()}" for _ in range(2))
    return [
        run.start(environ={"TF_CONFIG": tf_config(addresses, worker)}, **settings, **own)
        for worker, own in enumerate(of_each or ({}, {}))
    ]


def train(run, **settings):
    lives = start(run, **settings)
    return lives, [life.wait() for life in lives]


@pytest.fixture(scope="module")
def calm(zygote, tmp_path_factory):
    """Two workers that nothing happened to."""
    run = Run(zygote, tmp_path_factory.mktemp("calm"))
    lives, codes = train(run)
    assert codes == [0, 0], "\n".join(life.text() for life in lives)
    # Each says the same of every epoch, and one of them saves.
    shown = [[(e["epoch"], e["loss"]) for e in life.events("epoch")] for life in lives]
    assert shown[0] == shown[1]
    assert [len(life.events("checkpoint")) > 0 for life in lives] == [True, False]
    return run


# Without dropout: masks belong to replicas, which get other records of a step in each set-up.
PLAIN = {
    "params.dropout": 0.0,
    "data.train": "train[:128]",
    # The last of its steps is smaller than there are replicas.
    "data.validation": "test[:97]",
    "data.test": None,
    "data.batch_size": 32,
    "data.block_records": 8,
    "train.epochs": 2,
    "metrics.enabled": False,
    "export.formats": [],
}


@pytest.mark.long
def test_two_workers_train_as_two_replicas_of_one_do(zygote, tmp_path):
    runs = [Run(zygote, tmp_path / name, PLAIN, packaged="fashion_mnist") for name in "ab"]
    for run in runs:
        run.folder.mkdir()
    lives, codes = train(runs[0])
    assert codes == [0, 0], "\n".join(life.text() for life in lives)
    assert runs[1].train(cluster__replicas=2).code == 0, runs[1].lives[0].text()
    ours, theirs = (run.last().arrays for run in runs)
    assert ours.keys() == theirs.keys()
    for name in (name for name in ours if name.startswith(("model/", "optimizer/"))):
        np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-4, atol=1e-5, err_msg=name)
    ours, theirs = (run.summary()["history"] for run in runs)
    assert ours.keys() == theirs.keys() >= {"loss", "val_loss"}
    for name in ours:
        np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-4, atol=1e-5, err_msg=name)


@pytest.mark.long
@pytest.mark.parametrize("told", [0, 1], ids=["chief", "other"])
def test_f04_a_signal_to_one_stops_both_at_the_same_step(run, told):
    lives = start(run, train__epochs=40, checkpoint__every_steps=None)
    lives[told].wait_for("epoch")
    lives[told].signal(signal.SIGTERM)
    assert [life.wait() for life in lives] == [75, 75], lives[0].text()
    reasons = {life.events("stopped")[0]["reason"] for life in lives}
    assert len(reasons) == 1
    step = run.committed()[-1]
    assert f"stopped at step {step}, saved" in reasons.pop()
    lives, codes = train(run, train__epochs=1 + step // 9)
    assert codes == [0, 0], "\n".join(life.text() for life in lives)
    assert [life.events("restore")[0]["step"] for life in lives] == [step, step]


@pytest.mark.long
def test_f43_both_are_killed_and_go_on_to_the_same_result(run, calm):
    killed = signal_at(6, "SIGKILL")
    lives, codes = train(run, callbacks=[killed], checkpoint__background=False)
    assert -signal.SIGKILL in codes
    assert run.fired()
    assert run.committed() == [4]
    lives, codes = train(run)
    assert codes == [0, 0], "\n".join(life.text() for life in lives)
    assert run.sha256() == calm.sha256()
    assert run.summary()["history"] == calm.summary()["history"]


@pytest.mark.parametrize(
    "communication", ["auto", *(pytest.param(n, marks=pytest.mark.long) for n in ("ring", "nccl"))]
)
def test_the_configured_communication_reaches_tensorflow(run, communication):
    """Without GPUs, TensorFlow does what NCCL is asked for by rings."""
    noted = {"name": "tests.faults.inject:NoteCommunication", "stateless": True}
    lives, codes = train(
        run, callbacks=[noted], cluster__communication=communication, train__epochs=1
    )
    assert codes == [0, 0], lives[0].text()
    assert sorted(run.fired()) == [f"communication {i} {communication}" for i in (0, 1)]


def test_workers_that_see_different_devices_are_refused_by_name(run):
    """More CPUs instead of GPUs; agents would have refused the key that makes them."""
    lives = start(run, {}, {"cluster__replicas": 2})
    assert [life.wait() for life in lives] == [2, 2], lives[0].text()
    for life in lives:
        assert "different devices (1 CPU: worker 0; 2 CPU: worker 1)" in life.text()
        assert not life.events("restore")


@pytest.mark.long
@pytest.mark.parametrize("worker", [0, 1])
def test_a_worker_without_an_agent_does_not_wait_for_ever(run, worker):
    """TensorFlow would; it says where it stood, or whom it waited for."""
    addresses = tuple(f"127.0.0.1:{free_port()}" for _ in range(2))
    life = run.start(environ={"TF_CONFIG": tf_config(addresses, worker)})
    assert life.wait(100) == 1
    if worker == 0:
        assert "Timeout (0:01:00)!" in life.text()
        assert "_of_group" in life.text()
    else:
        assert f"worker 0 did not listen at {addresses[0]} within 60 s" in life.text()
