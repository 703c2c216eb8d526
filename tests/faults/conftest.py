"""One zygote for the session, and undisturbed runs to compare with."""

import shutil
import uuid

import pytest

from tests.faults.groups import Agents, at_the_gate, gate
from tests.faults.harness import Run, Zygote
from trainer.data.builtin import resolve_data_url
from trainer.storage import gcs as gcs_module
from trainer.storage import open_storage

DATA = "gs://bucket/data"


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


@pytest.fixture
def store(gcs, monkeypatch):
    """This process reads and writes the store without the proxy."""
    gcs_module._client.cache_clear()
    for name, value in gcs.environment().items():
        monkeypatch.setenv(name, value)
    yield
    gcs_module._client.cache_clear()


@pytest.fixture
def data(store, gcs):
    """The data of the tests, in the store."""
    if not (gcs.root / "bucket" / "data").exists():
        there, to = open_storage(resolve_data_url("builtin:fashion_mnist")), open_storage(DATA)
        for entry in there.list():
            to.write(entry.path, there.read(entry.path))
    return DATA


@pytest.fixture
def run_in_store(zygote, tmp_path, gcs, proxy, store):
    """A run whose folder is in the store, behind the proxy."""
    settings = {"run.dir": f"gs://bucket/{uuid.uuid4().hex}/run", "run.wait_seconds": 2}
    return Run(zygote, tmp_path, settings, environ=gcs.environment(proxy.port))
