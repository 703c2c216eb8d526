"""Data and run on `gs://`, in real processes, through a proxy that breaks requests."""

import os
import random
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid

import pytest

from tests.fault_proxy import Fault
from tests.faults import test_lease_faults
from tests.faults.groups import Agents, at_the_gate, open_gate
from tests.faults.groups import finish as group_finish
from tests.faults.groups import gate as group_gate
from tests.faults.harness import SMALL, Run, finish, kill_at_random_steps, signal_at
from tests.faults.test_agent import measure_agents
from tests.faults.test_lease_faults import gate, wait_until_fired
from tests.small_storage import paths
from trainer.data.builtin import resolve_data_url
from trainer.storage import gcs as gcs_module
from trainer.storage import open_storage

pytestmark = pytest.mark.needs_gcs

PART = r"POST .*\.safetensors"
DATA = "gs://bucket/data"


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
def run(zygote, tmp_path, gcs, proxy, store):
    """A run whose folder is in the store, behind the proxy."""
    settings = {"run.dir": f"gs://bucket/{uuid.uuid4().hex}/run", "run.wait_seconds": 2}
    return Run(zygote, tmp_path, settings, environ=gcs.environment(proxy.port))


def page(life):
    with urllib.request.urlopen(life.events("metrics")[0]["url"], timeout=10) as answer:
        return answer.read().decode()


def requests(page, operation, code):
    found = re.search(
        rf'trainer_storage_requests_total{{code="{code}",operation="{operation}"}} (\S+)', page
    )
    return float(found[1]) if found else 0.0


def test_data_and_run_in_the_store_give_the_same_result(run, proxy, undisturbed, data):
    # Rights on objects have to be enough: all that concerns the bucket itself is denied.
    proxy.faults.append(Fault("status", r"^\w+ /storage/v1/b/[^/]*$", 403, times=10**6))
    with pytest.raises(urllib.error.HTTPError):
        urllib.request.urlopen(f"http://127.0.0.1:{proxy.port}/storage/v1/b/bucket")
    run.settings["data.url"] = data
    starts = kill_at_random_steps(run, kills=5, steps=18, seed=1)
    assert len(set(starts)) > 2
    finish(run, undisturbed, export__formats=["keras"])
    assert paths(open_storage(f"{run.url}/model")) == ["model.keras"]
    assert not (run.folder / "gs:").exists()
    assert len(proxy.fired) == 1  # the one above


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


@pytest.mark.parametrize("workers", [2, pytest.param(1, marks=pytest.mark.long)])
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


def test_f33_what_is_refused_at_the_start_is_waited_for_and_named(run, proxy):
    proxy.faults.append(Fault("status", "POST /upload", 403, times=10**6))
    started = time.monotonic()
    life = run.train()
    assert time.monotonic() - started > 2
    assert life.code == 1, life.text()
    [said] = life.events("waiting for the storage")
    assert "storage.objects.create" in said["reason"]
    assert "this identity needs storage.objects.create" in life.text().splitlines()[-1]
    assert not life.events("starting TensorFlow")


def test_f33_data_that_may_be_listed_and_not_read_is_named_by_the_agent(run, proxy, data):
    proxy.faults.append(Fault("status", "GET /download/.*data", 403, times=10**6))
    life = run.start(command="train", data__url=data)
    assert life.wait() == 1, life.text()
    [said] = life.events("waiting for the storage")
    assert "storage.objects.get" in said["reason"]
    assert not life.events("worker starts")


@pytest.mark.parametrize("code", [403, 401])
def test_f33_a_right_that_comes_late_is_enough(run, proxy, code):
    proxy.faults.append(Fault("status", "POST /upload", code, times=2))
    life = run.train(run__wait_seconds=30)
    assert life.code == 0, life.text()
    assert proxy.num_fired("status") == 2


@pytest.mark.parametrize("host", ["http://nobody.invalid:1", ""], ids=["name", "credentials"])
def test_f33_a_store_out_of_reach_is_waited_for(run, host):
    life = run.train(environ={"STORAGE_EMULATOR_HOST": host, "NO_GCE_CHECK": "true"})
    assert life.code == 1, life.text()
    [said] = life.events("waiting for the storage")
    assert ("no connection" if host else "no valid credentials") in said["reason"]


@pytest.mark.parametrize(
    ("setting", "code", "words"),
    [("run.dir", 2, "no bucket gs://nowhere"), ("data.url", 2, "no bucket gs://nowhere")],
)
def test_f33_a_bucket_that_is_not_there_is_refused_at_once(run, setting, code, words):
    run.settings |= {"run.wait_seconds": 60, setting: "gs://nowhere/runs/a"}
    started = time.monotonic()
    life = run.train()
    assert time.monotonic() - started < 10
    assert life.code == code, life.text()
    assert words in life.text()


def test_f33_data_that_is_not_there_is_refused_at_once(run):
    started = time.monotonic()
    life = run.train(data__url="gs://bucket/no/data", run__wait_seconds=60)
    assert time.monotonic() - started < 10
    assert life.code == 3, life.text()


def test_f26_steps_go_on_while_the_store_is_down(run, proxy, undisturbed):
    proxy.faults.append(Fault("status", PART, 503, times=10**6))
    life = run.start(
        callbacks=[gate(run, 17)], checkpoint__every_steps=None,
        metrics__enabled=True, metrics__port=0,
    )  # fmt: skip
    # Up to step 17, while the save of step 9 is refused.
    wait_until_fired(run, 1)
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
    assert requests(shown, "write", 503) >= num_refused
    assert requests(shown, "write", "ok") > 0
    assert run.sha256() == undisturbed.sha256()


def test_f28_an_upload_that_is_cut_is_sent_again(run, proxy, undisturbed):
    proxy.faults.append(Fault("refuse", PART, times=2))
    proxy.faults.append(Fault("cut_upload", "POST /upload", 300, skip=20, times=2))
    life = run.train()
    assert life.code == 0, life.text()
    assert (proxy.num_fired("refuse"), proxy.num_fired("cut_upload")) == (2, 2)
    assert run.sha256() == undisturbed.sha256()


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


def test_f31_a_store_that_sends_nothing_times_out(run, proxy, undisturbed):
    proxy.faults.append(Fault("stall", PART))
    life = run.start(
        callbacks=[gate(run, 17)], checkpoint__every_steps=None, environ={"FAULT_TIMEOUT": "2"}
    )
    # Steps go on while the save of step 9 hangs.
    wait_until_fired(run, 1)
    assert not life.events("checkpoint")
    (run.folder / "open").touch()
    assert life.wait() == 0, life.text()
    assert proxy.num_fired("stall") == 1
    assert run.sha256() == undisturbed.sha256()


def test_f32_a_token_that_is_refused_in_mid_run_fails_for_a_while_only(run, proxy, undisturbed):
    proxy.faults.append(Fault("status", PART, 401, times=2))
    life = run.train()
    assert life.code == 0, life.text()
    assert proxy.num_fired("status") == 2
    assert run.sha256() == undisturbed.sha256()


def test_f34_checkpoints_beyond_the_first_page_of_a_list(run, proxy, undisturbed):
    assert run.train(callbacks=[signal_at(6)], checkpoint__background=False).code == -9
    # What attempts left behind, before the checkpoint in the list: more than one page.
    storage = open_storage(f"{run.url}/checkpoints/step-00000001-f1")
    for number in range(1001):
        storage.write(f"{number:012x}/manifest.json", b"{}")
    finish(run, undisturbed)
    assert any("pageToken=" in line for line in proxy.requests)


@pytest.mark.parametrize(
    ("kind", "value"), [("slow", 0.3), ("narrow", 30_000)], ids=["latency", "bandwidth"]
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
test_f11_in_the_store = test_lease_faults.test_f11_a_frozen_holder_commits_nothing_that_is_restored
test_f52_in_the_store = test_lease_faults.test_f52_a_second_process_is_refused_at_once


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


@pytest.mark.long
@pytest.mark.timeout(900)
def test_the_packaged_run_gives_the_same_result_from_and_to_the_store(
    zygote, tmp_path, gcs, store, data, record_property
):
    local = Run(zygote, tmp_path / "local", packaged="fashion_mnist")
    calm, killed = (
        Run(
            zygote, tmp_path / name,
            {"run.dir": f"gs://bucket/{uuid.uuid4().hex}/run", "data.url": data},
            environ=gcs.environment(), packaged="fashion_mnist",
        )
        for name in ("calm", "killed")
    )  # fmt: skip
    for run in (local, calm, killed):
        run.folder.mkdir()
    # As `make local-run` does it: an agent and its worker.
    assert local.start(command="train").wait(300) == 0, local.lives[0].text()
    assert calm.start(command="train").wait(300) == 0, calm.lives[0].text()
    assert calm.sha256() == local.sha256()
    models = [paths(open_storage(f"{run.url}/model")) for run in (local, calm)]
    assert models[0] == models[1]
    assert {path.partition("/")[0] for path in models[1]} == {"model.keras", "saved_model"}
    chance = random.Random(7)
    for _ in range(5):
        life = killed.start(callbacks=[signal_at(chance.randint(20, 200))])
        assert life.wait(300) == -9, life.text()
    assert killed.start().wait(300) == 0, killed.lives[-1].text()
    assert killed.lives[-1].events("restore")[0]["step"] > 0
    record_property("kills", len(killed.fired()))
    record_property("sha256", local.sha256())
    assert killed.sha256() == local.sha256()
    assert killed.summary()["test"] == local.summary()["test"]


@pytest.mark.long
@pytest.mark.needs_originals
@pytest.mark.timeout(1200)
def test_all_70000_images_are_prepared_into_the_store_and_trained_from_it(
    zygote, tmp_path, gcs, store, record_property
):
    url, originals = "gs://bucket/full", "/usr/share/datasets/fashion-mnist"
    trainer = [sys.executable, "-m", "trainer"]
    environ = os.environ | gcs.environment() | {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    for command in (
        ["data", "prepare", "fashion_mnist", "--to", url, "--source", originals],
        ["data", "verify", url],
    ):
        done = subprocess.run([*trainer, *command], env=environ, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    settings = {"run.dir": f"{url}-run", "data.url": url, "train.epochs": 2}
    settings |= {"data.cache": "stream", "data.disk_cache_dir": str(tmp_path)}
    run = Run(zygote, tmp_path, settings, environ=gcs.environment(), packaged="fashion_mnist")
    life = run.start()
    assert life.wait(600) == 0, life.text()
    assert run.summary()["steps"] == 2 * 938
    record_property("test_accuracy", run.summary()["test"]["accuracy"])
    assert run.summary()["test"]["accuracy"] > 0.8


def test_agents_with_the_client_stay_small(tmp_path, gcs, data):
    settings = SMALL | {"run.dir": f"gs://bucket/{uuid.uuid4().hex}/run", "data.url": data}
    residents, maps = measure_agents(tmp_path, 2, settings, gcs.environment())
    assert len(residents) == 2
    assert max(residents) < 110e6
    assert "tensorflow" not in maps
