"""An object store, and a proxy that breaks what goes to it.

Tests that need a tool are skipped without it; with REQUIRE_TOOLS set (make check) they fail.
"""

import gc
import os
import re
import shutil
import signal
from pathlib import Path

import pytest

from tests.emulator import emulator
from tests.fault_proxy import fault_proxy

ROOT = Path(__file__).parents[1]
# Where `make tools` builds; first, since another version may be installed.
os.environ["PATH"] = f"{ROOT / '.tools'}:{os.environ['PATH']}"
# Processes that a shell began in the background ignore it, and so would all that tests start.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
# Programs, and folders of data.
TOOLS = {
    "needs_alertmanager": ("prometheus", "prometheus-alertmanager"),
    "needs_chromium": ("chromium",),
    "needs_gcs": ("fake-gcs-server",),
    "needs_prometheus": ("prometheus", "promtool"),
    "needs_git": ("git",),
    "needs_graphviz": ("dot",),
    "needs_helm": ("helm", "helm3", "kubeconform", "helm-docs", "kustomize"),
    "needs_originals": ("/usr/share/datasets/fashion-mnist",),
}
WAYS = {"needs_helm": "make chart-tools", "needs_chromium": "apt-get install chromium"}


def pytest_collection_modifyitems(items):
    """Tests that are named after a fault are found by `-m fault`."""
    for item in items:
        if re.match(r"test_f\d\d_", item.name):
            item.add_marker(pytest.mark.fault)


def pytest_runtest_setup(item):
    for marker, tools in TOOLS.items():
        missing = [tool for tool in tools if not (shutil.which(tool) or Path(tool).is_dir())]
        if missing and item.get_closest_marker(marker):
            leave_out = pytest.fail if os.environ.get("REQUIRE_TOOLS") else pytest.skip
            leave_out(f"{' and '.join(missing)} missing: {WAYS.get(marker, 'make tools')}")


@pytest.fixture(scope="session")
def gcs(tmp_path_factory):
    """A real GCS emulator with a bucket called `bucket`."""
    with emulator(tmp_path_factory.mktemp("gcs")) as running:
        running.make_bucket("bucket")
        yield running


@pytest.fixture
def proxy(gcs, monkeypatch):
    """A fault proxy before the emulator; this process talks to it."""
    from trainer.storage.gcs import _client

    with fault_proxy(gcs.url) as running:
        for name, value in gcs.environment(running.port).items():
            monkeypatch.setenv(name, value)
        _client.cache_clear()  # it keeps to the endpoint that it began with
        yield running
        _client.cache_clear()


def pytest_collection_finish():
    """Nothing looks again at what was imported: Keras collects garbage for every new model."""
    gc.freeze()
