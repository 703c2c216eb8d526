"""The real chart with the real image on the cluster that KUBECONFIG names: `make e2e`.

IMAGE and EMULATOR_IMAGE are images that the cluster has or can pull. Each test tells its story in
lines, which `make e2e` writes into docs/e2e.md.
"""

import json
import os
import time
from pathlib import Path

import pytest

from tests.e2e.kube import Kube
from tests.e2e.run import Run
from tests.e2e.store import Store
from tests.e2e.values import IMAGE, SAVE_EVERY, chart_values

HERE = Path(__file__).parent
EMULATOR_IMAGE = os.environ.get("EMULATOR_IMAGE", "docker.io/fsouza/fake-gcs-server:1.56.1")
TEST_SECONDS = 900


def pytest_collection_modifyitems(items):
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.e2e)
            item.add_marker(pytest.mark.timeout(TEST_SECONDS))


@pytest.fixture
def tell(request):
    """Keep a line of what happened, with the second in which it did."""
    start, lines = time.monotonic(), []

    def say(text: str) -> None:
        lines.append(f"{time.monotonic() - start:6.1f} s  {text}")
        print(lines[-1], flush=True)

    yield say
    path = os.environ.get("E2E_TRANSCRIPT")
    if path:
        with Path(path).open("a") as file:
            file.write(json.dumps({"test": request.node.name, "lines": lines}) + "\n")


@pytest.fixture(scope="session")
def store():
    """An emulator of Google Cloud Storage, with the packaged data."""
    store = Store(Kube("e2e-store"))
    store.start(emulator=EMULATOR_IMAGE, trainer=IMAGE)
    yield store
    store.kube("delete", "namespace", store.kube.namespace, "--wait=false")


@pytest.fixture(scope="session")
def kube():
    """A namespace for the runs, gone when they are."""
    kube = Kube("e2e")
    kube.make_namespace()
    yield kube
    kube("delete", "namespace", kube.namespace, "--timeout=120s")


@pytest.fixture
def make_run(kube, store):
    """Makes runs by name, and removes them afterwards."""
    made = []

    def make(name, **values):
        run = Run(kube, store, name, chart_values(store) | values)
        made.append(run)
        return run

    yield make
    for run in made:
        run.remove()


@pytest.fixture
def disturbed_run(make_run, request):
    """A run of three pods that has saved twice, to be disturbed."""
    name = request.node.name.removeprefix("test_").translate(str.maketrans("_ []", "----"))
    run = make_run(name[:30].strip("-"))
    run.install()
    run.wait_for_step(2 * SAVE_EVERY)
    return run


@pytest.fixture(scope="session")
def undisturbed(kube, store):
    """What came of a run to which nothing happened."""
    run = Run(kube, store, "undisturbed", chart_values(store))
    run.install()
    yield run.wait_until_complete()
    run.remove()
