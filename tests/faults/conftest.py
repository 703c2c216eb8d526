"""One zygote for the session, one undisturbed run to compare with."""

import shutil

import pytest

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
