"""A real object store, and a proxy that breaks what goes to it."""

import pytest

from tests.emulator import emulator
from tests.fault_proxy import fault_proxy


@pytest.fixture(scope="session")
def gcs(tmp_path_factory):
    """A real GCS emulator with a bucket called `bucket`."""
    with emulator(tmp_path_factory.mktemp("gcs")) as running:
        running.make_bucket("bucket")
        yield running


@pytest.fixture
def proxy(gcs, monkeypatch):
    """A fault proxy before the emulator; this process talks to it."""
    with fault_proxy(gcs.url) as running:
        for name, value in gcs.environment(running.port).items():
            monkeypatch.setenv(name, value)
        yield running
