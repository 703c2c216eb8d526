"""Pictures of real runs: the same after a kill, from one worker of a group, never in the way."""

import re

import numpy as np
import pytest

from tests.faults.groups import Agents
from tests.faults.harness import ROOT, Run, finish, signal_at

NAMES = ["confusion_matrix", "loss_curves", "loss_history", "predictions"]
PICTURES = [{"name": name} for name in NAMES]


def drawn(run):
    """The files by name."""
    return {path.name: path.read_bytes() for path in (run.dir / "pictures").iterdir()}


@pytest.fixture(scope="module")
def calm(zygote, tmp_path_factory):
    """An undisturbed run with pictures."""
    run = Run(zygote, tmp_path_factory.mktemp("calm"), {"callbacks": PICTURES})
    life = run.train()
    assert life.code == 0, life.text()
    assert not [event for event in life.events() if event.get("level") == "warning"]
    return run


@pytest.mark.long
def test_a_run_with_pictures_is_the_run_without(calm, undisturbed):
    assert calm.sha256() == undisturbed.sha256()
    assert calm.summary()["test"] == undisturbed.summary()["test"]
    assert sorted(drawn(calm)) == [f"{name}.png" for name in NAMES]


@pytest.mark.long
@pytest.mark.parametrize(
    "kill",
    [signal_at(14), signal_at(1, hook="on_epoch_end"), signal_at(2, hook="on_epoch_end")],
)
def test_pictures_are_the_same_after_a_kill(run, calm, kill):
    run.settings = {"callbacks": PICTURES}
    assert run.train(callbacks=[*PICTURES, kill]).code == -9
    finish(run, calm)
    assert drawn(run) == drawn(calm)


@pytest.mark.long
def test_a_folder_that_refuses_pictures_ends_no_training(run, undisturbed):
    fault = {"action": "fail", "at": 1, "times": 99, "operations": ["write"]}
    fault |= {"folder": "/run", "path": "pictures/"}
    life = run.train(callbacks=PICTURES, storage=fault)
    assert life.code == 0, life.text()
    assert run.fired()
    warnings = life.events("picture not drawn")
    assert {event["file"] for event in warnings} == {f"{name}.png" for name in NAMES}
    assert "StorageError: injected failure of write pictures/" in warnings[0]["reason"]
    assert run.sha256() == undisturbed.sha256()


@pytest.mark.long
def test_one_worker_of_a_group_draws(run):
    """Whatever it computes for that: the others wait for it nowhere but at the end."""
    agents = Agents(run, settings={"callbacks": PICTURES})
    agents.train()
    assert sorted(drawn(run)) == [f"{name}.png" for name in NAMES]
    assert "picture not drawn" not in agents.text()


@pytest.mark.parametrize(
    ("callback", "said"),
    [
        ({"name": "confusion_matrix", "args": {"split": "tset"}}, "has no split 'tset'"),
        ({"name": "predictions", "args": {"output": "no"}}, "no output 'no' tells classes"),
        ({"name": "loss_curves", "args": {"file": "a/b.png"}}, "must be a plain name that ends in"),
        ({"name": "tests.faults.inject:Unsettable"}, "Unsettable: its set_run raised ValueError"),
    ],
)
def test_what_cannot_be_drawn_is_refused_before_a_step(run, callback, said):
    life = run.train(callbacks=[callback])
    assert life.code == 2, life.text()
    assert said in life.text()
    assert run.committed() == []


def test_the_callback_of_the_page_writes_its_file(run):
    page = (ROOT / "docs" / "pictures.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (run.folder / "extremes.py").write_text(code)
    run.environ = {"FAULT_PATH": str(run.folder)}
    life = run.train(callbacks=[{"name": "extremes:Extremes", "stateless": True}])
    assert life.code == 0, life.text()
    rows = np.loadtxt(run.dir / "extremes.txt")
    assert rows.shape == (10, 2)
    assert np.all((rows >= 0) & (rows <= 1) & (rows[:, :1] < rows[:, 1:]))
