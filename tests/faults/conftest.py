"""One zygote for the session, one undisturbed run to compare with."""

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
