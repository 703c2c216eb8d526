"""`gs://` under faults: requests are repeated, bounded, counted, and never done twice in effect."""

import os
import threading
import time
import uuid
from collections import Counter

import pytest

from tests.fault_proxy import Fault
from trainer.errors import ObjectNotFoundError, StorageError
from trainer.storage import gcs
from trainer.storage.gcs import GCSStorage

pytestmark = pytest.mark.needs_gcs

BIG = 9 << 20  # beyond 8 MiB the client uploads in a session, resumable


@pytest.fixture
def counts():
    return Counter()


@pytest.fixture
def store(proxy, counts, monkeypatch):
    # The client knows the last test's proxy.
    gcs._client.cache_clear()
    monkeypatch.setattr("trainer.storage.gcs._FIRST_WAIT_SECONDS", 0.01)

    def count(operation, code, size, is_repeated):
        counts[operation, code] += 1
        counts["bytes"] += size
        counts["retries"] += is_repeated

    return GCSStorage(
        "bucket", f"runs/{uuid.uuid4().hex}", timeout_seconds=2, deadline_seconds=20,
        on_request=count,
    )  # fmt: skip


def test_objects_are_listed_in_order_over_many_pages(store, proxy, counts, monkeypatch):
    monkeypatch.setattr("trainer.storage.gcs._PAGE", 10)
    paths = [f"a/{number:02d}" for number in range(25)]
    for path in paths:
        store.write(path, b"")
    store.write("ab", b"x")
    proxy.faults.append(Fault("status", "GET /storage/.*prefix=", 503, skip=1))
    assert [entry.path for entry in store.list("a")] == paths
    assert (counts["list", "ok"], counts["list", "503"]) == (3, 1)


def test_folders_are_those_right_below(store, proxy, counts):
    for number in range(5):
        store.write(f"run-{number:02d}/checkpoints/a", b"")
    store.write("file", b"")
    proxy.faults.append(Fault("status", "GET /storage/.*delimiter=", 503))
    assert store.folders() == [f"run-{number:02d}" for number in range(5)]
    assert counts["list", "503"] == 1
    inside = GCSStorage("bucket", store.url.removeprefix("gs://bucket/") + "/run-03")
    assert inside.folders() == ["checkpoints"]


@pytest.mark.parametrize("code", [408, 410, 429, 500, 502, 503, 504])
def test_temporary_refusals_are_repeated_and_counted(store, proxy, counts, code):
    proxy.faults.append(Fault("status", "POST /upload", code, times=2))
    store.write("a", b"data")
    assert counts["write", str(code)] == proxy.num_fired("status") == 2
    assert (counts["write", "ok"], counts["bytes"], counts["retries"]) == (1, 4, 2)
    assert store.read("a") == b"data"


def test_a_refused_token_is_renewed_and_then_tried_again(store, proxy, counts):
    proxy.faults.append(Fault("status", "POST /upload", 401, times=2))
    store.write("a", b"data")
    # There is none to renew here, and the client says so.
    assert (counts["write", "credentials"], counts["write", "ok"]) == (2, 1)


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ("refuse", "connection"),
        ("cut", "connection"),
        ("corrupt", "checksum"),
        ("stall", "timeout"),
    ],
)
def test_a_broken_download_is_repeated_until_its_bytes_are_right(store, proxy, counts, fault, code):
    data = os.urandom(100_000)
    store.write("a", data)
    proxy.faults.append(Fault(fault, "GET /download"))
    assert store.read("a") == data
    assert proxy.num_fired(fault) == counts["read", code] == 1


@pytest.mark.parametrize("size", [1000, BIG])
@pytest.mark.parametrize("fault", ["refuse", "cut_upload", "corrupt_upload", "lose_reply", "stall"])
def test_a_broken_upload_is_repeated_whole(store, proxy, fault, size):
    data = os.urandom(size)
    proxy.faults.append(Fault(fault, "(POST|PUT) /upload", size // 2, skip=int(size == BIG)))
    assert store.write("a", data).size == size
    assert proxy.num_fired(fault) == 1
    assert store.read("a") == data


@pytest.mark.parametrize("kept", [0, 256 * 1024])
def test_an_upload_that_was_kept_in_part_is_repeated_whole(store, proxy, kept):
    data = os.urandom(BIG)
    proxy.faults.append(Fault("partial", "PUT /upload", kept))
    assert store.write("a", data).size == BIG
    assert proxy.num_fired("partial") == 1
    assert store.read("a") == data


@pytest.mark.parametrize("size", [1000, BIG])
def test_a_creation_whose_reply_was_lost_is_ours(store, proxy, size):
    data = os.urandom(size)
    proxy.faults.append(Fault("lose_reply", "(POST|PUT) /upload", skip=int(size == BIG)))
    created = store.create("a", data)
    assert proxy.num_fired("lose_reply") == 1
    assert created == store.stat("a")


def test_a_replacement_whose_reply_was_lost_is_ours(store, proxy):
    first = store.create("a", b"1")
    proxy.faults.append(Fault("lose_reply", "POST /upload"))
    second = store.replace("a", b"2", version=first.version)
    assert proxy.num_fired("lose_reply") == 1
    assert second == store.stat("a")
    assert store.replace("a", b"3", version=first.version) is None
    assert store.read("a") == b"2"


def test_one_of_many_creators_wins(store):
    won = []
    threads = [
        threading.Thread(target=lambda n=n: won.append((store.create("a", b"%d" % n), n)))
        for n in range(16)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    [winner] = [number for entry, number in won if entry]
    assert store.read("a") == b"%d" % winner


def test_an_error_beyond_the_deadline_names_what_failed_and_no_url_of_the_service(store, proxy):
    store = GCSStorage("bucket", "x", timeout_seconds=1, deadline_seconds=1)
    proxy.faults.append(Fault("status", "upload", 503, times=1000))
    started = time.monotonic()
    with pytest.raises(StorageError) as caught:
        store.write("a", b"data")
    assert time.monotonic() - started < 15
    assert str(caught.value) == (
        "cannot write gs://bucket/x/a: HTTP status 503 for 1 s; check the network and the "
        "service's status"
    )


def test_a_refusal_names_the_permission(store, proxy):
    proxy.faults.append(Fault("status", "POST /upload", 403))
    with pytest.raises(StorageError, match=r"storage\.objects\.create"):
        store.write("a", b"data")
    assert len(proxy.requests) == 1


def test_names_that_no_path_may_have_are_told_of(store):
    store.write("a/b", b"data")
    folder = store.url.removeprefix("gs://bucket/")
    for name in ("a/back\\slash", "a/two\nlines", "a/"):
        gcs._client().bucket("bucket").blob(f"{folder}/{name}").upload_from_string(b"data")
    passed = []
    assert [entry.path for entry in store.list("a", pass_over=passed.append)] == ["a/b"]
    # An emulator, unlike the service, leaves out what stands for a folder.
    assert sorted({*passed} - {"a/"}) == ["a/back\\slash", "a/two\nlines"]


def test_absent_objects(store):
    for call in (store.read, store.stat):
        with pytest.raises(ObjectNotFoundError, match="no object gs://bucket/"):
            call("none")
    store.delete("none")
    assert store.replace("none", b"", version="1") is None


def test_only_objects_are_touched(store, proxy):
    store.write("a", b"data")
    store.create("b", b"data")
    store.stat("a")
    store.read("a", start=1, length=2)
    list(store.list())
    store.delete("a")
    assert all("/o" in line.split("?")[0] for line in proxy.requests)
