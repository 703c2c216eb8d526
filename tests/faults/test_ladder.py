"""The rungs of docs/ladder.md, as the page has them: each trains, is killed, and goes on."""

import json
import shlex

import pytest

from tests.faults.harness import Run, finish, signal_at
from tests.pages import commands_of, files_of, read_page, run_commands, write_files

PAGE = read_page("ladder.md")
SHORT = {
    "metrics.enabled": False, "export.formats": [], "train.epochs": 2,
    "checkpoint.every_steps": 4, "checkpoint.background": False,
}  # fmt: skip


def rungs():
    """What each command of the page sets, by the folder of its run."""
    lines = [shlex.split(line) for line in commands_of(PAGE).splitlines()]
    sets = [
        dict(word.split("=") for word in line if "=" in word)
        for line in lines
        if line[:4] == ["trainer", "train", "-c", "ladder.yaml"]
    ]
    return {keys.pop("run.dir", "runs/numbers").removeprefix("runs/"): keys for keys in sets}


RUNGS = rungs()
# The same on two replicas, and with steps in two parts.
SPREAD = [
    ("loop", {"cluster.replicas": 2}),
    ("parts", {"cluster.replicas": 2}),
    ("step", {"cluster.replicas": 2, "train.accumulate_steps": 2}),
]


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """A folder with the page's files in it."""
    folder = tmp_path_factory.mktemp("ladder")
    write_files(PAGE, folder)
    return folder


@pytest.fixture(scope="module")
def calm(zygote, page, tmp_path_factory):
    """A function: rung, more settings -> a short run of it that nothing happened to."""
    runs = {}

    def train(rung, more=()):
        key = rung, json.dumps(dict(more))
        if key not in runs:
            runs[key] = started(zygote, page, tmp_path_factory.mktemp(rung), rung, more)
            assert runs[key].train().code == 0, runs[key].lives[0].text()
        return runs[key]

    return train


def started(zygote, page, folder, rung, more):
    settings = SHORT | RUNGS[rung] | dict(more)
    environ = {"FAULT_PATH": str(page)}
    return Run(zygote, folder, settings, environ, packaged=str(page / "ladder.yaml"))


def test_the_page_has_its_files_and_its_rungs():
    found = ["ladder.yaml", "net.py", "step_model.py", "step.py", "loop_body.py", "loop.py"]
    assert list(files_of(PAGE)) == found
    assert list(RUNGS) == ["numbers", "net", "step", "parts", "loop"]


# What a rung has of its own is resumed on the last one, too.


@pytest.mark.long
@pytest.mark.parametrize(("rung", "more"), [*((rung, {}) for rung in RUNGS), *SPREAD])
def test_a_rung_is_killed_and_resumed(zygote, page, calm, tmp_path, rung, more):
    run = started(zygote, page, tmp_path, rung, more)
    life = run.train(callbacks=[signal_at(6)])
    assert life.code == -9, life.text()
    assert run.committed() == [4]
    finish(run, calm(rung, more))


@pytest.mark.parametrize(
    "rung", ["step", *(pytest.param(rung, marks=pytest.mark.long) for rung in ("parts", "loop"))]
)
def test_the_same_training_on_every_rung_comes_to_the_same_weights(calm, rung):
    model, other = calm("net"), calm(rung)
    assert other.sha256() == model.sha256()
    history, found = model.summary()["history"], other.summary()["history"]
    assert history.keys() <= found.keys()
    for name, values in history.items():
        assert found[name] == pytest.approx(values, rel=1e-5)


@pytest.mark.long
def test_the_page_is_run_as_it_stands(page):
    run_commands(PAGE, page)
    for rung in RUNGS:
        summary = json.loads((page / "runs" / rung / "summary.json").read_text())
        assert summary["epochs"] == 10
        assert summary["test"]["accuracy"] > 0.8
