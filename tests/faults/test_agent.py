"""`trainer train`: an agent that keeps a worker training, whatever becomes of the worker."""

import itertools
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.faults.groups import children_of, is_running, wait_until, worker_of
from tests.faults.harness import ROOT, SMALL, finish, signal_at, storage_fault

SERVED = {"metrics__enabled": True, "metrics__port": 0}


def agent(run, *args, **settings):
    # What is saved is saved before the next step: a fault comes after a known checkpoint.
    settings = {"checkpoint__background": False} | settings
    return run.start(*args, command="train", **settings)


def gate(run, at=6):
    """A callback that stands still at a step until the test makes a file."""
    args = {"at": at, "path": str(run.folder / "gate")}
    return {"name": "tests.faults.inject:GateAt", "args": args, "stateless": True}


def fetch(life, path="/metrics"):
    url = life.wait_for("metrics")["url"].replace("/metrics", path)
    with urllib.request.urlopen(url, timeout=5) as answer:
        return answer.read().decode()


def samples(text):
    families = text_string_to_metric_families(text)
    return {(s.name, *sorted(s.labels.items())): s.value for f in families for s in f.samples}


def kept_output(run):
    """What each generation of worker 0 printed last, as the run's folder has it."""
    return [path.read_text() for path in sorted(run.dir.glob("logs/worker-0/*.log"))]


def last_word(text):
    """The agent's, of its worker's end."""
    event = json.loads(text.splitlines()[-1])
    assert event["event"] == "worker ended"
    return event


@pytest.mark.long
def test_a_killed_worker_is_replaced_to_the_same_result(run, undisturbed):
    # Each life ends at its sixth step, but the last one, which has only two to do.
    life = agent(run, callbacks=[signal_at(6)], train__steps_per_call=1)
    assert life.wait() == 0, life.text()
    restarts = life.events("worker restarts")
    assert len(restarts) == len(run.fired()) == 4
    assert all("killed (SIGKILL)" in event["reason"] for event in restarts)
    assert [event["step"] for event in life.events("restore")] == [0, 4, 9, 12, 16]
    assert run.sha256() == undisturbed.sha256()
    assert run.summary()["history"] == undisturbed.summary()["history"]
    lives = [path.read_text().splitlines() for path in sorted((run.dir / "events").iterdir())]
    told = [[json.loads(line)["event"] for line in lines] for lines in lives]
    assert told == [["start", "restore"]] * 4 + [["start", "restore", "complete"]]
    kept = kept_output(run)
    assert [text.count('"restore"') for text in kept] == [1] * 5
    assert [last_word(text)["code"] for text in kept] == [-9] * 4 + [0]
    assert "killed (SIGKILL)" in last_word(kept[0])["reason"]


@pytest.mark.parametrize(
    "workers", [1, pytest.param(2, marks=[pytest.mark.long, pytest.mark.timeout(240)])]
)
def test_a_worker_that_leaves_with_0_has_failed(run, undisturbed, workers):
    leave = {
        "name": "tests.faults.inject:LeaveAt", "args": {"at": 9, "worker": 0}, "stateless": True,
    }  # fmt: skip
    life = agent(run, "--workers", str(workers), callbacks=[leave], train__steps_per_call=1)
    assert life.wait(200) == 0, life.text()
    assert len(run.fired()) == 2
    assert run.summary()["complete"]
    reasons = [event["reason"] for event in life.events("worker restarts")]
    assert len(reasons) >= 2
    assert all("ended with 0 before the run was complete" in reason for reason in reasons)
    assert [last_word(text)["code"] for text in kept_output(run)] == [0, 0, 0]
    assert "before the run was complete" in last_word(kept_output(run)[0])["reason"]
    if workers == 1:
        assert run.sha256() == undisturbed.sha256()


@pytest.mark.long
def test_f60_no_counter_goes_back_while_the_agent_lives(run):
    # Each worker stands still after five steps, its metrics are read, and it is killed.
    life = agent(run, callbacks=[gate(run, 5)], **SERVED)
    pages = []
    for number in (1, 2, 3):
        wait_until(lambda: len(run.fired()) == number, "a worker at the gate")  # noqa: B023
        steps = ("trainer_steps_total",)
        wait_until(lambda: samples(fetch(life)).get(steps, 0) >= 4 * number, "metrics")  # noqa: B023
        pages.append(samples(fetch(life)))
        if number < 3:
            os.kill(worker_of(life), signal.SIGKILL)
            wait_until(lambda: len(life.events("worker restarts")) == number, "a restart")  # noqa: B023
            pages.append(samples(fetch(life)))
    (run.folder / "gate").touch()
    assert life.wait() == 0, life.text()
    for before, after in itertools.pairwise(pages):
        counters = [k for k in before if k[0].endswith(("_total", "_count", "_bucket", "_sum"))]
        assert len(counters) > 20
        assert all(after.get(key, 0) >= before[key] for key in counters)
    assert pages[-1][("trainer_worker_restarts_total", ("cause", "killed"))] == 2


@pytest.mark.parametrize("name", ["SIGTERM", pytest.param("SIGINT", marks=pytest.mark.long)])
def test_f04_a_signal_to_the_agent_saves_and_ends(run, undisturbed, name):
    life = agent(run, callbacks=[gate(run)])
    wait_until(run.fired, "the worker at the gate")
    number = signal.Signals[name]
    life.signal(number)
    (run.folder / "gate").touch()
    assert life.wait(20) == 128 + number, life.text()
    assert f"stopped at step {run.committed()[-1]}, saved" in life.text()
    assert not life.events("worker restarts")
    finish(run, undisturbed, command="train")


@pytest.mark.long
def test_ctrl_c_says_what_goes_on_with_the_run(run):
    life = agent(run, callbacks=[gate(run)], log__format="text")
    wait_until(run.fired, "the worker at the gate")
    life.signal(signal.SIGINT)
    (run.folder / "gate").touch()
    assert life.wait(20) == 130, life.text()
    assert life.text().splitlines()[-1] == "stopped; the same command goes on with the run"


def test_a_second_signal_ends_agent_and_worker_at_once(run):
    life = agent(
        run, storage=storage_fault("stall", 1, "write", seconds=30), train__grace_seconds=25
    )
    wait_until(run.fired, "the save that stalls")
    worker = worker_of(life)
    os.kill(worker, signal.SIGSTOP)  # it hears neither, as in a long native call
    life.signal(signal.SIGTERM)
    life.wait_for("stopping")
    life.signal(signal.SIGTERM)
    assert life.wait(5) == 143
    assert not is_running(worker)
    assert last_word(kept_output(run)[0])["reason"] == "it was told to stop a second time"


def test_the_grace_ends_a_worker_that_does_not(run):
    life = agent(run, callbacks=[gate(run)], train__grace_seconds=1)
    wait_until(run.fired, "the worker at the gate")
    life.signal(signal.SIGTERM)
    started = time.monotonic()
    assert life.wait(20) == 143
    assert time.monotonic() - started < 6
    assert life.events("worker killed")


def test_a_hung_worker_shows_its_stacks_and_is_replaced(run, undisturbed):
    life = agent(run, callbacks=[gate(run)], run__hang_seconds=6)
    assert life.wait_for("worker restarts")["reason"] == "no progress for 6 s"
    (run.folder / "gate").touch()
    assert life.wait() == 0, life.text()
    assert life.events("worker hangs")[0]["step"] <= 5
    assert "inject.py" in life.text()
    first, second = kept_output(run)
    assert "inject.py" in first
    assert last_word(first)["reason"] == "no progress for 6 s"
    assert "inject.py" not in second
    assert last_word(second)["code"] == 0
    assert run.sha256() == undisturbed.sha256()


@pytest.mark.long
def test_a_long_test_pass_does_not_hang(run):
    slow = {"recipe": "tests.faults.recipe:slow_test", "data.validation": None}
    slow |= {"data.test": "test[:384]", "run.hang_seconds": 6}
    life = agent(run, **slow)
    assert life.wait() == 0, life.text()
    assert not life.events("worker hangs")
    assert "report" in life.text()


def test_f12_restarts_without_a_new_step_end_with_7(run, undisturbed):
    # The first checkpoint would be that of step 4.
    life = agent(run, callbacks=[signal_at(3)])
    assert life.wait() == 7, life.text()
    # More, where the agent had not heard of a step yet when its first worker was killed.
    assert len(run.fired()) >= 4
    [error] = life.events("error")
    assert "4 workers in a row failed without a new step" in error["message"]
    # The cause mended, all is well.
    finish(run, undisturbed, command="train")


@pytest.mark.long
def test_f12_the_count_outlives_the_agent(run):
    # Before a first step: of a later one, the agent may have heard or not.
    killed = [signal_at(1, hook="on_train_batch_begin")]
    life = agent(run, callbacks=killed, run__max_restarts=1000)
    wait_until(lambda: len(life.events("worker restarts")) >= 2, "two restarts")
    life.signal(signal.SIGKILL)
    life.wait()
    again = agent(run, callbacks=killed, run__max_restarts=2)
    assert again.wait() == 7, again.text()
    assert len(again.events("worker restarts")) == 0


def test_a_worker_dies_with_its_agent_and_the_run_goes_on(run, undisturbed):
    life = agent(run, callbacks=[gate(run)])
    wait_until(run.fired, "the worker at the gate")
    worker = worker_of(life)
    life.signal(signal.SIGKILL)
    life.wait()
    wait_until(lambda: not is_running(worker), "the worker's end")
    finish(run, undisturbed, command="train")


@pytest.mark.parametrize(
    ("settings", "code"),
    [
        ({"params__units": "many"}, 2),
        ({"data__url": "/nowhere"}, 3),
        ({"cluster__device": "gpu"}, 2),
    ],
    ids=["configuration", "data", "no GPU"],
)
def test_a_worker_that_refuses_is_not_replaced(run, settings, code):
    life = agent(run, **settings)
    assert life.wait() == code, life.text()
    [error] = life.events("error")
    if "cluster__device" in settings:
        assert "GPUs asked for: 1, visible: 0 (NVIDIA driver none" in error["message"]
    assert not life.events("worker restarts")


def test_f10_a_complete_run_stays_as_it_is(run):
    assert agent(run, log__keep=False).wait() == 0
    assert not (run.dir / "logs").exists()
    before = {path: path.stat().st_mtime_ns for path in run.dir.rglob("*")}
    life = agent(run)
    assert life.wait() == 0
    assert life.events("complete")
    assert {path: path.stat().st_mtime_ns for path in run.dir.rglob("*")} == before


def test_what_ends_the_run_is_told_by_an_agent_that_was_told_to_stop(run):
    args = {"at": 6, "kind": "DataError"}
    fail = {"name": "tests.faults.inject:FailAt", "args": args, "stateless": True}
    life = agent(run, callbacks=[gate(run), fail])
    wait_until(run.fired, "the worker at the gate")
    life.signal(signal.SIGTERM)
    life.wait_for("stopping")
    (run.folder / "gate").touch()
    assert life.wait() == 3, life.text()


def test_f52_a_run_that_was_taken_over_ends_with_6(run):
    life = agent(run, callbacks=[gate(run)], run__lease_seconds=3)
    wait_until(run.fired, "the worker at the gate")
    run.take_over()
    life.wait_for("run lost")
    (run.folder / "gate").touch()
    assert life.wait() == 6, life.text()


def test_probes_tell_whether_it_trains(run):
    life = agent(run, callbacks=[gate(run)], **SERVED)
    with pytest.raises(urllib.error.HTTPError, match="503"):
        fetch(life, "/readyz")
    assert fetch(life, "/healthz") == "ok\n"
    assert samples(fetch(life))[("trainer_run_info", ("run", "run"))] == 1
    wait_until(run.fired, "the worker at the gate")
    assert fetch(life, "/readyz") == "training\n"
    (run.folder / "gate").touch()
    assert life.wait() == 0, life.text()


@pytest.mark.long
def test_the_last_values_stay_up_for_one_scrape(run):
    life = agent(run, callbacks=[gate(run)], **SERVED)
    wait_until(run.fired, "the worker at the gate")
    fetch(life)
    time.sleep(4)  # between two scrapes; half as long again, the next one is waited for
    fetch(life)
    time.sleep(1.1)  # a page is rendered at most once a second
    (run.folder / "gate").touch()
    wait_until(lambda: not children_of(life), "the worker's end")
    wait_until(lambda: samples(fetch(life)).get(("trainer_steps_total",)) == 18, "all steps")
    assert life.wait(10) == 0, life.text()


@pytest.mark.long
def test_they_do_when_the_run_failed_too(run):
    callbacks = [gate(run, 2), signal_at(3)]
    life = agent(run, callbacks=callbacks, run__max_restarts=0, **SERVED)
    wait_until(run.fired, "the worker at the gate")
    fetch(life)
    time.sleep(4)
    fetch(life)
    time.sleep(1.1)
    (run.folder / "gate").touch()
    wait_until(lambda: not children_of(life), "the worker's end")
    assert samples(fetch(life))[("trainer_steps_total",)] >= 2
    assert life.wait(10) == 7, life.text()


@pytest.mark.parametrize(
    ("kills", "code"),
    [
        pytest.param(1, 7, id="failed", marks=pytest.mark.long),
        pytest.param(0, 0, id="complete", marks=pytest.mark.long),
    ],
)
def test_a_signal_ends_the_wait_for_the_last_scrape(run, kills, code):
    callbacks = [gate(run, 2), *[signal_at(3)] * kills]
    life = agent(run, callbacks=callbacks, run__max_restarts=0, **SERVED)
    wait_until(run.fired, "the worker at the gate")
    fetch(life)
    time.sleep(8)  # between two scrapes: the third is waited for 12 s
    fetch(life)
    (run.folder / "gate").touch()
    assert life.wait_for("last scrape")["most_seconds"] > 10
    life.signal(signal.SIGTERM)
    assert life.wait(5) == code, life.text()
    if kills:
        assert "without a new step" in life.events("last scrape")[0]["reason"]
        assert "without a new step" in life.events("error")[0]["message"]


@pytest.mark.long
@pytest.mark.parametrize("workers", [1, 2])
def test_agents_stay_small_and_load_no_tensorflow(tmp_path, workers):
    residents, maps = measure_agents(tmp_path, workers, SMALL | {"run.dir": tmp_path / "run"})
    assert len(residents) == workers
    assert max(residents) < 60e6
    assert "tensorflow" not in maps


def measure_agents(tmp_path, workers, settings, environ=()):
    """Resident bytes of each agent of a real command at its worker's end, and what they map."""
    sets = [f"--set={key}={value}" for key, value in settings.items()]
    (tmp_path / "run.yaml").write_text("train: {}\n")
    environ = {
        "PYTHONPATH": str(ROOT), "FAULT_RECORDS": str(tmp_path / "records"), **dict(environ)
    }  # fmt: skip
    with subprocess.Popen(
        [
            sys.executable, "-m", "trainer", "train", "-c", str(tmp_path / "run.yaml"), *sets,
            "--set=metrics.enabled=true", "--set=metrics.port=0", f"--workers={workers}",
        ],
        stdout=subprocess.PIPE, text=True, cwd=ROOT, env=os.environ | environ,
    ) as process:  # fmt: skip
        for line in process.stdout:
            if '"final save"' in line:
                break
        agents = children_of(process) if workers > 1 else [process.pid]
        folders = [Path(f"/proc/{pid}") for pid in agents]
        statuses = [(folder / "status").read_text() for folder in folders]
        maps = "".join((folder / "maps").read_text() for folder in folders)
        process.stdout.read()
    assert process.returncode == 0
    rows = [row.split() for status in statuses for row in status.splitlines()]
    return [int(row[1]) * 1024 for row in rows if row[:1] == ["VmRSS:"]], maps
