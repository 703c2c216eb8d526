"""One zygote for the session, and undisturbed runs to compare with."""

import shutil

import pytest

from tests.faults.groups import Agents, at_the_gate, gate
from tests.faults.harness import Run, Zygote


@pytest.fixture(scope="session")
def zygote():
    process = Zygote()
    yield process
    process.close()


@pytest.fixture
def run(zygote, tmp_path):
    return Run(zygote, tmp_path)


@pytest.fixture(scope="session")
def undisturbed(zygote, tmp_path_factory):
    """The run that every disturbed one must equal."""
    run = Run(zygote, tmp_path_factory.mktemp("undisturbed"))
    life = run.train()
    assert life.code == 0, life.text()
    return run


@pytest.fixture(scope="session")
def half(zygote, tmp_path_factory):
    """A run that is complete after its first epoch: checkpoints of steps 4, 8 and 9."""
    run = Run(zygote, tmp_path_factory.mktemp("half"))
    life = run.train(train__epochs=1)
    assert life.code == 0, life.text()
    assert run.committed() == [4, 8, 9]
    return run


@pytest.fixture
def halfway(half, run):
    """A copy of it, to damage and to go on with."""
    shutil.copytree(half.dir, run.dir)
    return run


@pytest.fixture(scope="session")
def calm(zygote, tmp_path_factory):
    """The same for groups: two workers that nothing happened to."""
    run = Run(zygote, tmp_path_factory.mktemp("calm"))
    agents = Agents(run)
    agents.train()
    assert "WARNING" not in agents.text()
    assert {event.get("level", "info") for event in run.lives[0].events()} == {"info"}
    return run


@pytest.fixture
def agents(run):
    """Two, which are not started yet."""
    return Agents(run)


@pytest.fixture
def gated(run):
    """Both workers after step 6, whose newest checkpoint is that of step 4."""
    agents = Agents(run, settings={"callbacks": [gate(run)]})
    agents.start()
    at_the_gate(agents)
    assert run.committed() == [4]
    return agents
