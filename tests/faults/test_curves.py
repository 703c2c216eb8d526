"""Curves of real runs: after a kill, each step is there once, as the undisturbed run made it."""

import os
import signal

import pytest

from tests.faults.groups import gate, open_gate, wait_until, worker_of
from tests.faults.test_goodput import linger
from trainer.run.curve_store import read
from trainer.run.curves import joined
from trainer.storage import open_storage


def curves(run):
    lives, problems = read(open_storage(run.url))
    assert not problems
    return joined(lives)


def test_a_run_that_nothing_happens_to(undisturbed):
    found = curves(undisturbed)
    assert (found.target, found.steps_per_epoch) == (18, {0: 9})
    assert found.train.steps == list(range(1, 19))
    history = undisturbed.summary()["history"]
    assert found.epochs.steps == [9, 18]
    assert set(found.epochs.values) == set(history)
    for name, values in history.items():
        assert found.epochs.values[name] == pytest.approx(values, rel=1e-5)
    assert set(found.rate.values) == {"learning_rate"}
    assert sum(map(sum, map(dict.values, found.durations.values()))) == 16
    assert "loss" in found.means


def test_steps_after_the_last_checkpoint_are_there_once(run, undisturbed):
    callbacks = [linger(0.2), gate(run, 14)]
    life = run.start(command="train", checkpoint__background=False, callbacks=callbacks)
    wait_until(run.fired, "the worker at the gate")
    wait_until(lambda: curves(run).step >= 12, "curves of what is saved")
    os.kill(worker_of(life), signal.SIGKILL)
    life.wait_for("worker restarts")
    open_gate(run)
    assert life.wait() == 0, life.text()
    found, calm = curves(run), curves(undisturbed)
    assert found.train.steps == calm.train.steps
    assert found.train.values == calm.train.values
    assert found.epochs.values == calm.epochs.values
    assert set(found.durations) == {1, 2}


@pytest.mark.long
def test_steps_that_fit_drives_have_the_same_curves(run, undisturbed):
    life = run.train(train__engine="fit")
    assert life.code == 0, life.text()
    assert curves(run).train.steps == list(range(1, 19))
    assert curves(run).epochs.values == curves(undisturbed).epochs.values
