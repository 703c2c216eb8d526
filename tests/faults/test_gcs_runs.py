"""Runs on `gs://` in real processes: which start, which are refused, and whole ones."""

import os
import random
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid

import pytest

from tests.fault_proxy import Fault
from tests.faults.harness import SMALL, Run, finish, kill_at_random_steps, signal_at
from tests.faults.test_agent import measure_agents
from tests.small_storage import paths
from trainer.storage import open_storage

pytestmark = pytest.mark.needs_gcs


@pytest.fixture
def run(run_in_store):
    return run_in_store


def test_data_and_run_in_the_store_give_the_same_result(run, proxy, undisturbed, data):
    # Rights on objects have to be enough: all that concerns the bucket itself is denied.
    proxy.faults.append(Fault("status", r"^\w+ /storage/v1/b/[^/]*$", 403, times=10**6))
    with pytest.raises(urllib.error.HTTPError):
        urllib.request.urlopen(f"http://127.0.0.1:{proxy.port}/storage/v1/b/bucket")
    run.settings["data.url"] = data
    starts = kill_at_random_steps(run, kills=3, steps=18, seed=1)
    assert len(set(starts)) > 1
    finish(run, undisturbed, export__formats=["keras"])
    assert paths(open_storage(f"{run.url}/model")) == ["model.keras"]
    assert not (run.folder / "gs:").exists()
    page = run.folder / "report.html"
    environ = os.environ | run.environ
    told = [sys.executable, "-m", "trainer", "report", run.url, "--out", str(page)]
    subprocess.run(told, env=environ, check=True, timeout=120)
    assert page.read_text().count("<svg") > 3
    assert len(proxy.fired) == 1  # the one above


@pytest.mark.timeout(300)
@pytest.mark.parametrize("seconds", [2, pytest.param(60, marks=pytest.mark.long)])
def test_f33_what_is_refused_at_the_start_is_waited_for_and_named(run, proxy, seconds):
    proxy.faults.append(Fault("status", "POST /upload", 403, times=10**6))
    started = time.monotonic()
    life = run.start(run__wait_seconds=seconds)
    life.wait(100)
    assert time.monotonic() - started > seconds
    assert life.code == 1, life.text()
    [said] = life.events("waiting for the storage")
    assert "storage.objects.create" in said["reason"]
    assert "this identity needs storage.objects.create" in life.text().splitlines()[-1]
    assert not life.events("starting TensorFlow")


@pytest.mark.long
def test_requests_while_the_model_is_built_change_no_weight(run, proxy, undisturbed):
    """Of other threads: the client drew from the generator of which layers have their seeds."""
    proxy.faults.append(Fault("slow", "POST .*/lease.json", 0, times=10**6))
    life = run.train(recipe="tests.faults.recipe:slow", run__lease_seconds=3)
    assert life.code == 0, life.text()
    assert proxy.num_fired("slow") > 3
    assert run.sha256() == undisturbed.sha256()


def test_f33_data_that_may_be_listed_and_not_read_is_named_by_the_agent(run, proxy, data):
    proxy.faults.append(Fault("status", "GET /download/.*data", 403, times=10**6))
    life = run.start(command="train", data__url=data)
    assert life.wait() == 1, life.text()
    [said] = life.events("waiting for the storage")
    assert "storage.objects.get" in said["reason"]
    assert not life.events("worker starts")


@pytest.mark.parametrize("code", [403, pytest.param(401, marks=pytest.mark.long)])
def test_f33_a_right_that_comes_late_is_enough(run, proxy, code):
    proxy.faults.append(Fault("status", "POST /upload", code, times=2))
    life = run.train(run__wait_seconds=30)
    assert life.code == 0, life.text()
    assert proxy.num_fired("status") == 2


@pytest.mark.parametrize(
    "host",
    [
        pytest.param("http://nobody.invalid:1", id="name", marks=pytest.mark.long),
        pytest.param("", id="credentials"),
    ],
)
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


def test_f68_dry_run_of_a_run_in_the_store_changes_nothing(run, proxy, undisturbed):
    command = [sys.executable, "-m", "trainer", "train", "-c", "fashion_mnist", "--dry-run"]
    command.append(f"--set=run.dir={run.url}")
    environ = os.environ | run.environ
    told = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60)
    assert told.returncode == 0, told.stderr
    assert proxy.requests
    assert all(line.startswith("GET ") for line in proxy.requests)
    assert run.train().code == 0
    changed = len([line for line in proxy.requests if not line.startswith("GET ")])
    assert changed > 0
    command.append("--set=train.seed=5")
    told = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60)
    assert told.returncode == 5, told.stderr
    assert changed == len([line for line in proxy.requests if not line.startswith("GET ")])


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


@pytest.mark.long
def test_agents_with_the_client_stay_small(tmp_path, gcs, data):
    settings = SMALL | {"run.dir": f"gs://bucket/{uuid.uuid4().hex}/run", "data.url": data}
    residents, maps = measure_agents(tmp_path, 2, settings, gcs.environment())
    assert len(residents) == 2
    assert max(residents) < 110e6
    assert "tensorflow" not in maps
