"""Google's client as `trainer.storage.gcs` uses it: tokens, upload sessions, connections."""

import logging
import random
import threading
import time
import traceback
import uuid
from functools import partial

import pytest
from google.auth._exponential_backoff import ExponentialBackoff
from google.auth.credentials import Credentials
from google.cloud import storage

from tests.fault_proxy import Fault
from trainer.errors import ConfigError, StorageError
from trainer.storage import gcs
from trainer.storage.gcs import GCSStorage

pytestmark = pytest.mark.needs_gcs

TOKEN = "ya29.token-"


class Refreshed(Credentials):
    """A new token each time; `num_refreshes` tells how often."""

    num_refreshes = 0

    def __init__(self):
        super().__init__()
        self.token = TOKEN

    def refresh(self, request):
        self.num_refreshes += 1
        self.token = f"{TOKEN}{self.num_refreshes}"


@pytest.fixture(autouse=True)
def _fresh_client(proxy):
    gcs._client.cache_clear()
    yield
    gcs._client.cache_clear()


@pytest.fixture
def store(proxy):
    return GCSStorage("bucket", uuid.uuid4().hex, timeout_seconds=5, deadline_seconds=1)


@pytest.fixture
def credentials(monkeypatch):
    """The client has them, as it would have with a cloud."""
    found = Refreshed()
    monkeypatch.setattr(gcs.storage, "Client", partial(storage.Client, credentials=found))
    return found


def test_f32_a_refused_token_is_renewed_once(store, proxy, credentials):
    proxy.faults.append(Fault("status", "POST /upload", 401))
    store.write("a", b"data")
    assert proxy.num_fired("status") == credentials.num_refreshes == 1
    assert len(proxy.requests) == 2


def test_f32_an_expired_token_is_renewed_before_it_is_sent(store, credentials):
    credentials.token = None
    store.write("a", b"data")
    assert credentials.num_refreshes == 1


def test_f32_tokens_and_upload_sessions_are_never_told(store, proxy, credentials, caplog):
    caplog.set_level(logging.INFO)
    caplog.set_level(logging.WARNING, "aiohttp")  # the proxy's own
    proxy.faults += [
        Fault("status", "POST /upload.*uploadType=multipart", 401, times=100),
        Fault("status", "PUT /upload", 503, times=100),
    ]
    for size in (4, 9 << 20):  # in one request, and in a session
        with pytest.raises(StorageError) as caught:
            store.write("a", bytes(size))
        told = "".join(traceback.format_exception(caught.value)) + caplog.text
        assert "cannot write" in told
        assert TOKEN not in told
        assert "upload_id" not in told
    assert credentials.num_refreshes
    assert proxy.fired[-1][1].startswith("PUT /upload")


def test_what_a_training_draws_from_is_left_alone(store, proxy, monkeypatch):
    """Python's generator, of which Keras makes the seeds of layers while other threads ask."""
    before = random.getstate()
    with monkeypatch.context() as patched:
        patched.setattr(time, "sleep", lambda _seconds: None)
        assert len([*ExponentialBackoff(total_attempts=3)]) == 3
    proxy.faults.append(Fault("status", "POST /upload", 503))
    store.write("a", b"data")
    store.write("large", bytes(9 << 20))  # by a session
    store.create("b", b"data")
    store.replace("b", b"other", version=store.stat("b").version)
    assert store.read("a") == b"data"
    assert len([*store.list()]) == 3
    store.delete("a")
    assert proxy.num_fired("status") == 1
    assert random.getstate() == before


def test_f26_waits_between_repeats_are_of_chance_and_bounded(proxy, monkeypatch):
    """So that workers, which have the same seeds, do not come back together."""
    waits, seeded = [], random.getstate()
    monkeypatch.setattr(time, "sleep", waits.append)
    store = GCSStorage("bucket", uuid.uuid4().hex, timeout_seconds=5)
    proxy.faults.append(Fault("status", "POST /upload", 503, times=10))
    for _ in range(2):
        proxy.faults[0].seen = 0
        random.setstate(seeded)
        store.write("a", b"data")
    assert proxy.num_fired("status") == len(waits) == 20
    assert len(set(waits)) == 20
    bounds = [min(0.5 * 2**number, 20) for number in range(10)]
    assert all(0 <= wait <= bound for wait, bound in zip(waits, bounds * 2, strict=True))


def test_many_threads_have_connections_of_their_own(store, proxy, caplog):
    store.write("a", b"data")
    proxy.faults.append(Fault("slow", "GET /download", 0.2, times=100))
    threads = [threading.Thread(target=store.read, args=("a",)) for _ in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert proxy.num_fired("slow") == 24
    assert "Connection pool is full" not in caplog.text


def test_the_proxies_of_the_environment_are_used(store, monkeypatch, request):
    monkeypatch.setenv("HTTP_PROXY", request.getfixturevalue("gcs").url)
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "http://store.invalid")
    store.write("a", b"data")
    assert store.read("a", start=1, length=2) == b"at"
    monkeypatch.setenv("NO_PROXY", "store.invalid")
    gcs._client.cache_clear()
    with pytest.raises(StorageError, match="no connection"):
        store.read("a")


def test_an_emulator_without_a_scheme_is_refused_at_once(store, monkeypatch):
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "localhost:4443")
    with pytest.raises(ConfigError, match="localhost:4443 is no URL: write http://HOST:PORT"):
        store.read("a")


def test_a_key_file_that_cannot_be_read_is_no_credentials(store, tmp_path, monkeypatch):
    monkeypatch.delenv("STORAGE_EMULATOR_HOST")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path))
    for call in (gcs.identity, lambda: store.read("a")):
        with pytest.raises(StorageError, match=r"credentials.*set GOOGLE_APPLICATION_CREDENTIALS"):
            call()
