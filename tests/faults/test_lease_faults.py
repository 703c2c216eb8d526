"""One run, several jobs: one of them holds it, and none spoils what another saved."""

import fcntl
import os
import re
import signal
import time
from pathlib import Path

import pytest

from tests.faults.harness import Run, finish, signal_at

JOB_A, JOB_B = ({"TRAINER_JOB_ID": name} for name in ("job-a", "job-b"))


def gate(run: Run, at: int) -> dict[str, object]:
    """A callback that stands still at a step until the test makes `run.folder / "open"`."""
    args = {"at": at, "path": str(run.folder / "open")}
    return {"name": "tests.faults.inject:GateAt", "args": args, "stateless": True}


def wait_until_fired(run: Run, count: int) -> None:
    deadline = time.monotonic() + 60
    while len(run.fired()) < count:
        assert time.monotonic() < deadline, run.lives[-1].text()
        time.sleep(0.01)


def test_f52_a_second_process_is_refused_at_once(run, undisturbed):
    first = run.start(callbacks=[gate(run, 6)])
    wait_until_fired(run, 1)
    second = run.train()
    assert second.code == 6, second.text()
    assert re.search(rf"is held by process {first.pid} on \S+, seen \d+ s ago", second.text())
    assert not second.events("strategy")
    (run.folder / "open").touch()
    assert first.wait() == 0, first.text()
    assert run.sha256() == undisturbed.sha256()


@pytest.mark.long
def test_f52_a_second_job_waits_and_is_refused(run, undisturbed):
    short = {"run__lease_seconds": 3}
    first = run.start(callbacks=[gate(run, 6)], environ=JOB_A, **short)
    wait_until_fired(run, 1)
    second = run.train(environ=JOB_B, **short)
    assert second.code == 6, second.text()
    assert re.search(r"is held by job job-a \(process \d+ on \S+\), seen \d+ s ago", second.text())
    assert second.events("waiting for the run")
    (run.folder / "open").touch()
    assert first.wait() == 0, first.text()
    assert run.sha256() == undisturbed.sha256()


def test_f52_a_second_job_finds_the_run_complete(run, undisturbed):
    first = run.start(callbacks=[gate(run, 6)], environ=JOB_A)
    wait_until_fired(run, 1)
    second = run.start(environ=JOB_B)
    second.wait_for("waiting for the run")
    (run.folder / "open").touch()
    assert (first.wait(), second.wait()) == (0, 0), first.text() + second.text()
    assert second.events("complete")
    assert run.sha256() == undisturbed.sha256()


def test_f53_a_dead_holder_is_taken_over(run, undisturbed):
    short = {"run__lease_seconds": 3}
    assert run.train(callbacks=[signal_at(6)], environ=JOB_A, **short).code == -signal.SIGKILL
    # Nobody can look for a process of another job: its lease has to run out.
    finish(run, undisturbed, environ=JOB_B, **short)
    assert run.lives[1].events("waiting for the run")
    assert [found.fence for found in run.checkpoints.all()][-1] == 2


def test_another_pod_of_the_same_job_goes_on_at_once(run, undisturbed):
    assert run.train(callbacks=[signal_at(6)], environ=JOB_A).code == -signal.SIGKILL
    finish(run, undisturbed, environ=JOB_A)
    assert not run.lives[1].events("waiting for the run")


def freeze(pid: int, folder: Path) -> None:
    """Stop a process, and not while it renews its lease: a lock would stay with it."""
    descriptor = os.open(folder, os.O_RDONLY) if folder.exists() else None  # or in the store
    if descriptor is not None:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    os.kill(pid, signal.SIGSTOP)
    deadline = time.monotonic() + 10
    while Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "T":
        assert time.monotonic() < deadline, "it does not stop"
    if descriptor is not None:
        os.close(descriptor)


def test_f11_a_frozen_holder_commits_nothing_that_is_restored(run, undisturbed):
    short = {"run__lease_seconds": 3, "train__epochs": 3, "checkpoint__keep_last": 9}
    frozen = run.start(
        callbacks=[gate(run, 6)], environ=JOB_A, checkpoint__background=False, **short
    )  # fmt: skip
    wait_until_fired(run, 1)
    freeze(frozen.pid, run.dir)
    (run.folder / "open").touch()
    # The other job goes on from step 4 and is killed before it has saved anything.
    other = run.train(callbacks=[signal_at(2)], environ=JOB_B, **short)
    assert other.code == -signal.SIGKILL, other.text()
    assert other.events("restore")[0]["step"] == 4
    frozen.signal(signal.SIGCONT)
    assert frozen.wait() == 6, frozen.text()
    assert "was taken over by job job-b" in frozen.text()
    late = [found.step for found in run.checkpoints.all() if found.step > 4]
    last = run.train(environ=JOB_B, train__epochs=2)
    assert last.code == 0, last.text()
    assert last.events("restore")[0]["step"] == 4
    assert len(last.events("checkpoint skipped")) == len(late)
    assert run.sha256() == undisturbed.sha256()
