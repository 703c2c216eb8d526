"""The real chart with the real image on the cluster that KUBECONFIG names: `make e2e`.

IMAGE and EMULATOR_IMAGE are images that the cluster has or can pull. What happened is kept as a
transcript: each test tells its story in lines, which `make e2e` writes into docs/e2e.md.
"""

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.kube import Kube
from tests.e2e.run import RUNS, Run
from tests.e2e.store import DATA, Store

HERE = Path(__file__).parent
IMAGE = os.environ.get("IMAGE", "trainer:e2e")
EMULATOR_IMAGE = os.environ.get("EMULATOR_IMAGE", "localhost/fake-gcs-server:1")
SAVE_EVERY = 20


def pytest_addoption(parser):
    parser.addoption("--transcript", help="file that gets the story of each test")


def pytest_collection_modifyitems(items):
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.e2e)
            item.add_marker(pytest.mark.timeout(900))


@pytest.fixture
def tell(request):
    """Keep a line of what happened, with the second in which it did."""
    start, lines = time.monotonic(), []

    def say(text: str) -> None:
        lines.append(f"{time.monotonic() - start:6.1f} s  {text}")
        print(lines[-1], flush=True)

    yield say
    path = request.config.getoption("--transcript")
    if path:
        with Path(path).open("a") as file:
            file.write(json.dumps({"test": request.node.nodeid, "lines": lines}) + "\n")


@pytest.fixture(scope="session")
def store():
    """An emulator of Google Cloud Storage, with the packaged data."""
    store = Store(Kube("e2e-store"))
    store.start(emulator=EMULATOR_IMAGE, trainer=IMAGE)
    yield store
    store.kube("delete", "namespace", "e2e-store", "--wait=false")


@pytest.fixture(scope="session")
def kube():
    """A namespace for the runs, gone when they are."""
    kube = Kube("e2e")
    kube.make_namespace()
    yield kube
    kube("delete", "namespace", "e2e", "--timeout=120s")


def configuration() -> dict[str, Any]:
    """A small run that lasts for some 30 s of steps on two cores."""
    return {
        "recipe": "fashion_mnist",
        "params": {"filters": 4, "convolutions": 1},
        "data": {
            "url": DATA, "train": "train[:960]", "test": "test[:96]",
            "batch_size": 96, "streams": 12,
        },
        "train": {"epochs": 60, "threads": 1},
        "checkpoint": {"every_steps": SAVE_EVERY, "every_epochs": None},
        "export": {"formats": []},
    }  # fmt: skip


def chart_values(store: Store) -> dict[str, Any]:
    """Three pods that fit two cores."""
    repository, _, tag = IMAGE.rpartition(":")
    return {
        "image": {"repository": repository, "tag": tag},
        "workers": 3,
        "runs": RUNS,
        "config": configuration(),
        "env": store.environment,
        "resources": {"requests": {"cpu": "300m", "memory": "700Mi"}},
    }


@pytest.fixture
def make_run(kube, store):
    """Makes runs by name, and removes them afterwards."""
    made = []

    def make(name: str, **values: Any) -> Run:
        run = Run(kube, store, name, chart_values(store) | values)
        made.append(run)
        return run

    yield make
    for run in made:
        run.remove()


@pytest.fixture(scope="session")
def undisturbed(kube, store):
    """The summary of a run to which nothing happened."""
    run = Run(kube, store, "undisturbed", chart_values(store))
    run.install()
    summary = run.wait_until_complete()
    yield summary
    run.remove()
