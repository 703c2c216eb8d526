"""Faults of `gs://` while real processes train, through a proxy that breaks requests."""

import re
import signal
import time
import urllib.request

import pytest

from tests.fault_proxy import Fault
from tests.faults import test_lease_faults
from tests.faults.groups import Agents, at_the_gate, open_gate
from tests.faults.groups import finish as group_finish
from tests.faults.groups import gate as group_gate
from tests.faults.harness import Run, finish, signal_at
from tests.faults.test_lease_faults import gate, wait_until_fired
from trainer.checkpoint.restore import newest
from trainer.checkpoint.store import CheckpointStore
from trainer.storage import open_storage

pytestmark = pytest.mark.needs_gcs

PART = r"POST .*\.safetensors"


@pytest.fixture
def run(run_in_store):
    return run_in_store


def page(life):
    with urllib.request.urlopen(life.events("metrics")[0]["url"], timeout=10) as answer:
        return answer.read().decode()


def requests(page, operation, code):
    found = re.search(
        rf'trainer_storage_requests_total{{code="{code}",operation="{operation}"}} (\S+)', page
    )
    return float(found[1]) if found else 0.0


def test_f06_a_signal_while_the_bucket_is_stalled(run, proxy, undisturbed):
    # All saves after that of step 4 hang.
    proxy.faults.append(Fault("stall", PART, skip=1, times=100))
    life = run.start(callbacks=[gate(run, 8)], train__grace_seconds=2.0)
    wait_until_fired(run, 1)
    life.signal(signal.SIGTERM)
    (run.folder / "open").touch()
    started = time.monotonic()
    assert life.wait(20) == 75, life.text()
    assert time.monotonic() - started < 5
    assert "not committed within 2 s" in life.text()
    assert proxy.num_fired("stall")
    proxy.faults.clear()
    assert run.committed() == [4]
    finish(run, undisturbed)


@pytest.mark.long
@pytest.mark.parametrize("workers", [1, 2])
def test_f06_a_signal_while_the_records_are_stalled(zygote, run, proxy, data, tmp_path, workers):
    """The step that waits for them cannot end: its worker is ended with the grace."""
    # Blocks of 10 records, of which each worker has 8 at a time; and 9 steps an epoch, of which a
    # pipeline is 18 ahead at most.
    small = {
        "data.streams": 2, "data.shuffle_blocks": 1, "data.block_records": 10,
        "data.validation": None, "data.test": None, "train.epochs": 6,
    }  # fmt: skip
    undisturbed = Run(zygote, tmp_path / "calm", small)
    undisturbed.folder.mkdir()
    Agents(undisturbed, workers).train()
    run.settings |= small | {"data.url": data, "data.cache": "stream", "data.disk_cache_mb": 0}
    noted = {"name": "tests.faults.inject:NoteBits", "args": {"every": 1}, "stateless": True}
    agents = Agents(run, workers, {"train.grace_seconds": 2, "callbacks": [noted, group_gate(run)]})
    agents.start()
    at_the_gate(agents)
    proxy.faults.append(Fault("stall", r"GET /download/.*train\.tfrecord", times=10**6))
    open_gate(run)
    wait_until_no_more(run.fired)
    assert len(run.fired()) < 54 * workers, "nothing stalled"
    committed = run.committed()
    for life in agents.lives.values():
        life.signal(signal.SIGTERM)
    started = time.monotonic()
    assert agents.codes(seconds=20) == [143] * workers, agents.text()
    assert time.monotonic() - started < 8
    # Whose worker is killed first lets the other's out of its wait, maybe before its own agent.
    killed = [event for life in agents.lives.values() for event in life.events("worker killed")]
    assert {event["reason"] for event in killed} == {"it did not end within the grace"}
    assert proxy.num_fired("stall")
    proxy.faults.clear()
    assert run.committed() == committed
    agents.start()
    group_finish(agents, undisturbed)
    assert agents.lives[0].events("restore")[0]["step"] == committed[-1] > 0


def wait_until_no_more(found, seconds=3):
    """Until nothing was added for so long, and at the deadline at the latest."""
    deadline = time.monotonic() + 60
    count, since = -1, 0.0
    while count != len(found()) or time.monotonic() < since + seconds:
        if count != len(found()):
            count, since = len(found()), time.monotonic()
        assert time.monotonic() < deadline, "it goes on and on"
        time.sleep(0.05)


def test_f25_a_save_that_is_refused_is_told_and_the_next_one_succeeds(run, proxy, undisturbed):
    proxy.faults.append(Fault("status", PART, 403))
    life = run.train(checkpoint__background=False)
    assert life.code == 0, life.text()
    assert proxy.num_fired("status") == 1
    [failed] = [e for e in life.events() if e.get("level") == "error"]
    assert "storage.objects.create" in str(failed)
    assert run.committed() == [12, 16, 18]
    assert run.sha256() == undisturbed.sha256()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("seconds", [0, pytest.param(60, marks=pytest.mark.long)])
def test_f26_steps_go_on_while_the_store_is_down(run, proxy, undisturbed, seconds):
    began = time.monotonic()
    proxy.faults.append(Fault("status", PART, 503, times=10**6))
    life = run.start(
        callbacks=[gate(run, 17)], checkpoint__every_steps=None,
        metrics__enabled=True, metrics__port=0,
    )  # fmt: skip
    # Up to step 17, while the save of step 9 is refused.
    wait_until_fired(run, 1)
    time.sleep(max(0, began + seconds - time.monotonic()))
    assert not life.events("checkpoint")
    num_refused = proxy.num_fired("status")
    assert num_refused > 0
    proxy.faults.clear()
    deadline = time.monotonic() + 60
    while not life.events("checkpoint"):
        assert time.monotonic() < deadline, life.text()
        time.sleep(0.02)
    shown = page(life)
    (run.folder / "open").touch()
    assert life.wait() == 0, life.text()
    assert requests(shown, "write", "5xx") >= num_refused
    assert requests(shown, "write", "ok") > 0
    assert run.sha256() == undisturbed.sha256()


def test_f28_an_upload_that_is_cut_is_sent_again(run, proxy, undisturbed):
    proxy.faults.append(Fault("refuse", PART, times=2))
    proxy.faults.append(Fault("cut_upload", PART, 300, skip=2, times=2))
    life = run.train()
    assert life.code == 0, life.text()
    assert (proxy.num_fired("refuse"), proxy.num_fired("cut_upload")) == (2, 2)
    assert run.sha256() == undisturbed.sha256()
    restored = newest(CheckpointStore(open_storage(f"{run.url}/checkpoints")))
    assert restored.checkpoint is not None
    assert (restored.checkpoint.manifest.step, restored.reasons) == (18, ())


def test_f29_a_marker_whose_reply_was_lost_is_ours(run, proxy, undisturbed):
    proxy.faults.append(Fault("lose_reply", "POST .*/COMMIT", times=2))
    life = run.train()
    assert life.code == 0, life.text()
    assert proxy.num_fired("lose_reply") == 2
    assert not [e for e in life.events() if e.get("level", "info") != "info"], life.text()
    assert run.committed() == [12, 16, 18]
    assert run.sha256() == undisturbed.sha256()


def test_f30_damage_on_the_way_is_read_again(run, proxy, undisturbed, data):
    assert run.train(callbacks=[signal_at(6)], checkpoint__background=False).code == -9
    proxy.faults.append(Fault("corrupt", r"GET /download/.*\.safetensors"))
    proxy.faults.append(Fault("corrupt", r"GET /download/.*train\.tfrecord-\d+-of-\d+\?"))
    proxy.faults.append(Fault("corrupt", r"GET /download/.*train\.tfrecord-[^?]*index"))
    run.settings |= {"data.url": data, "data.cache": "stream", "data.disk_cache_mb": 0}
    finish(run, undisturbed)
    assert proxy.num_fired("corrupt") == 3
    assert not run.lives[-1].events("checkpoint skipped")


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "environ", [{"FAULT_TIMEOUT": "2"}, pytest.param({}, marks=pytest.mark.long)], ids=["2", "60"]
)
def test_f31_a_store_that_sends_nothing_times_out(run, proxy, undisturbed, environ):
    proxy.faults.append(Fault("stall", PART))
    life = run.start(callbacks=[gate(run, 17)], checkpoint__every_steps=None, environ=environ)
    # Steps go on while the save of step 9 hangs.
    wait_until_fired(run, 1)
    assert not life.events("checkpoint")
    (run.folder / "open").touch()
    assert life.wait(100) == 0, life.text()
    assert proxy.num_fired("stall") == 1
    assert run.sha256() == undisturbed.sha256()


def test_f32_a_token_that_is_refused_in_mid_run_fails_for_a_while_only(run, proxy, undisturbed):
    proxy.faults.append(Fault("status", PART, 401, times=2))
    life = run.train()
    assert life.code == 0, life.text()
    assert proxy.num_fired("status") == 2
    assert run.sha256() == undisturbed.sha256()


@pytest.mark.long
def test_f34_checkpoints_beyond_the_first_page_of_a_list(run, proxy, undisturbed):
    assert run.train(callbacks=[signal_at(6)], checkpoint__background=False).code == -9
    # What attempts left behind, before the checkpoint in the list: more than one page.
    storage = open_storage(f"{run.url}/checkpoints/step-00000001-f1")
    for number in range(1001):
        storage.write(f"{number:012x}/manifest.json", b"{}")
    finish(run, undisturbed)
    assert any("pageToken=" in line for line in proxy.requests)


@pytest.mark.long
@pytest.mark.parametrize(
    ("kind", "value"),
    [("slow", 0.3), ("narrow", 30_000)],
    ids=["latency", "bandwidth"],
)
def test_f35_waiting_for_data_explains_a_slow_link(run, proxy, undisturbed, data, kind, value):
    run.settings |= {"data.url": data, "data.cache": "stream", "data.disk_cache_mb": 0}
    run.settings |= {"metrics.enabled": True, "metrics.port": 0}
    before, _ = waited_for_data(run, undisturbed)
    slow = Fault(kind, r"GET /download/.*train\.tfrecord", value, times=10**6)
    proxy.faults.append(slow)
    run.settings["run.dir"] += "-slow"
    with_it, shown = waited_for_data(run, undisturbed)
    assert with_it > max(0.3, before), shown
    assert requests(shown, "read", "ok") >= proxy.num_fired(kind) > 1


def waited_for_data(run, undisturbed):
    """Seconds of a whole run by its metrics, which are given, too."""
    run.fault_log.unlink(missing_ok=True)
    (run.folder / "open").unlink(missing_ok=True)
    life = run.start(callbacks=[gate(run, 17)])
    wait_until_fired(run, 1)
    shown = page(life)
    (run.folder / "open").touch()
    assert life.wait() == 0, life.text()
    assert run.sha256() == undisturbed.sha256()
    return float(re.search(r"(?m)^trainer_data_wait_seconds_total (\S+)", shown)[1]), shown


# The same as on a folder, with the run of this module.
test_f52_in_the_store = test_lease_faults.test_f52_a_second_process_is_refused_at_once


@pytest.mark.long
def test_f11_in_the_store(run, undisturbed):
    test_lease_faults.test_f11_a_frozen_holder_commits_nothing_that_is_restored(run, undisturbed)


@pytest.mark.long
def test_f53_a_dead_holder_in_the_store_is_taken_over(run, undisturbed):
    short = {"run__lease_seconds": 3}
    job_a, job_b = ({"TRAINER_JOB_ID": name} for name in "ab")
    assert run.train(callbacks=[signal_at(6)], environ=job_a, **short).code == -9
    second = run.start(callbacks=[gate(run, 2)], environ=job_b, **short)
    wait_until_fired(run, 2)
    assert second.events("waiting for the run")
    third = run.train(environ={"TRAINER_JOB_ID": "c"}, **short)
    assert third.code == 6, third.text()
    assert "is held by job b" in third.text()
    (run.folder / "open").touch()
    assert second.wait() == 0, second.text()
    assert run.sha256() == undisturbed.sha256()
