"""What is known of a run from its folder."""

import shutil
import subprocess
import sys
from dataclasses import replace

import pytest

from tests.small_report import SECONDS, folder, make_run, objects
from trainer.checkpoint.holder import this_holder
from trainer.checkpoint.lease import acquire
from trainer.errors import ConfigError
from trainer.run import ledger
from trainer.run.facts import read_facts
from trainer.run.run_dir import RunDir


@pytest.fixture(scope="module")
def complete(tmp_path_factory):
    return folder(tmp_path_factory.mktemp("runs"))


@pytest.fixture
def run(complete, tmp_path):
    """A copy, to change."""
    shutil.copytree(complete.url, tmp_path / "demo")
    return RunDir(str(tmp_path / "demo"))


def test_a_complete_run(complete):
    before = objects(complete)
    facts = read_facts(complete)
    assert (facts.name, facts.state, facts.problems) == ("demo", "complete", ())
    assert (facts.step, facts.target, facts.epochs, facts.restarts) == (600, 600, 6, 1)
    assert facts.goodput == pytest.approx(40 / 72.5)
    assert [each.step for each in facts.checkpoints] == [300, 600]
    assert facts.last_checkpoint.step == 600
    assert facts.pictures == ("pictures/predictions.png",)
    assert facts.eta_seconds is None
    assert objects(complete) == before


def test_its_lives(complete):
    first, second = read_facts(complete).lives
    assert (first.number, first.restored, first.reason, first.detail) == (
        1,
        0,
        "killed",
        "signal 9",
    )
    assert (second.number, second.restored, second.reason) == (2, 300, "complete")
    assert second.skipped == ("checkpoint step-320 is damaged: restoring step-300",)
    assert first.surroundings == {
        "version": "1.2.3", "keras": "3.15.0", "python": "3.11.9", "processors": "2"
    }  # fmt: skip
    assert first.spent.seconds == SECONDS | {"down": 7.5}


def test_its_curves_have_each_step_once(complete):
    curves = read_facts(complete).curves
    assert curves.train.steps == list(range(1, 601))
    assert curves.epochs.steps == [100, 200, 300, 400, 500, 600]
    assert set(curves.epochs.values) == {"loss", "accuracy", "val_loss", "val_accuracy"}
    assert set(curves.durations) == {1, 2}


def test_a_list_of_runs_reads_less(complete):
    facts = read_facts(complete, whole=False)
    assert (facts.step, facts.target, facts.curves.train.steps[0]) == (600, 600, 301)


def test_a_run_that_is_trained(run):
    run.storage.delete("summary.json")
    lease = acquire(run.storage, this_holder({}), above=2)
    facts = read_facts(run)
    assert (facts.state, facts.holder) == ("running", str(this_holder({})))
    lease.release()
    assert read_facts(run).state == "stopped"


def test_a_holder_that_gives_no_sign_of_life_is_none(run):
    run.storage.delete("summary.json")
    acquire(run.storage, this_holder({"TRAINER_JOB_ID": "a"}), above=2)
    assert read_facts(run).state == "running"
    later = run.storage.stat("lease.json").updated + 61
    assert read_facts(run, now=later).state == "stopped"


def test_what_is_left_takes_its_time(tmp_path):
    run = folder(tmp_path, is_complete=False)
    acquire(run.storage, this_holder({}), above=2)
    facts = read_facts(run)
    assert (facts.step, facts.target) == (450, 600)
    # 20 s of steps, and 6 s of waits, validation and saves.
    assert facts.eta_seconds == pytest.approx(150 * 26 / 150)
    shutil.rmtree(f"{run.url}/goodput")
    assert read_facts(run).eta_seconds == pytest.approx(150 / 20)


def test_a_run_that_nobody_trains_stands_at_its_last_checkpoint(run):
    run.storage.delete("summary.json")
    run.storage.delete("checkpoints/step-00000600-f0/COMMIT")
    facts = read_facts(run)
    assert (facts.step, facts.reached) == (300, 600)
    acquire(run.storage, this_holder({}), above=2)
    assert read_facts(run).step == 600


def test_a_life_ended_when_it_worked_last(complete):
    first, second = read_facts(complete).lives
    assert first.ended == first.began + sum(SECONDS.values()) == second.began - 7.5
    assert second.ended == second.spent.end


def test_why_nobody_trains_it_is_the_last_life_s_reason(run):
    assert read_facts(run).because == ""
    run.storage.delete("summary.json")
    life = read_facts(run).ledger.generations[-1]
    ledger.write(run.storage, replace(life, reason="failed", detail="the loss is NaN"))
    facts = read_facts(run)
    assert (facts.state, facts.because) == ("failed", "the loss is NaN")
    assert [each.reason for each in facts.ended] == ["killed", "failed"]
    ledger.write(run.storage, replace(life, reason="", detail=""))
    assert read_facts(run).because == "its agent went without a word"


@pytest.mark.parametrize(
    ("file", "problem"),
    [
        ("config.yaml", "config.yaml in"), ("curves/000002.json", "curves/000002.json is damaged"),
        ("lease.json", "lease.json in"), ("events/000001.jsonl", "events/000001.jsonl in"),
        ("run.json", "run.json in"), ("goodput/000001.json", "goodput/000001.json in"),
        ("summary.json", "summary.json in"),
        ("checkpoints/step-00000600-f0/COMMIT", None),
    ],
)  # fmt: skip
@pytest.mark.parametrize("data", [b"\xff{", b"[1]"])
def test_a_damaged_file_hides_no_other(run, file, problem, data):
    run.storage.write(file, data)
    facts = read_facts(run)
    assert facts.lives
    assert len(facts.problems) == (problem is not None)
    assert all(problem in told for told in facts.problems)


@pytest.mark.parametrize(
    ("file", "data"),
    [
        ("config.yaml", b""), ("config.yaml", b"#" * (1 << 21)),
        ("summary.json", b'{"complete": true, "epochs": 1, "steps": -5}'),
        ("summary.json", b'{"complete": true, "epochs": 1, "steps": true}'),
        ("summary.json", b'{"complete": false, "epochs": 1, "steps": 5}'),
        ("summary.json", b'{"complete": true, "epochs": 1, "steps": 1%s}' % (b"0" * 400)),
        ("events/000001.jsonl", b'{"time": 1e300, "event": "start"}'),
        ("events/000001.jsonl", b'{"time": NaN, "event": "start"}'),
        ("goodput/000003.json", b'{"number": 2, "start": 1, "end": 2, "seconds": {}}'),
    ],
    ids=lambda value: str(value[:60]),
)  # fmt: skip
def test_what_is_damaged_is_told(run, file, data):
    run.storage.write(file, data)
    facts = read_facts(run)
    [problem] = facts.problems
    assert problem.startswith(file)
    assert len(facts.lives) == 2


def test_copies_and_notes_are_no_lives(run):
    for folder_, name in (("events", "000001.jsonl"), ("goodput", "000001.json")):
        run.storage.write(f"{folder_}/note.txt", b"mine")
        copy = f"{folder_}/{name.removeprefix('00000')}"
        run.storage.write(copy, run.storage.read(f"{folder_}/{name}"))
    facts = read_facts(run)
    assert len(facts.lives) == len(facts.ledger.generations) == 2
    assert facts.ledger.wall_seconds == pytest.approx(72.5)


def test_a_run_without_what_other_versions_did_not_write(run):
    for folder_ in ("curves", "events", "goodput", "pictures"):
        shutil.rmtree(f"{run.url}/{folder_}")
    facts = read_facts(run)
    assert (facts.state, facts.step, facts.lives, facts.goodput) == ("complete", 600, (), None)


def test_no_run_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="no run in"):
        read_facts(RunDir(str(tmp_path / "none")))


@pytest.mark.needs_gcs
def test_a_run_in_a_bucket(gcs, proxy):
    facts = read_facts(make_run("gs://bucket/facts/demo", is_complete=False))
    assert (facts.name, facts.state, facts.step, len(facts.lives)) == ("demo", "stopped", 450, 2)


def test_nobody_needs_tensorflow():
    code = "import sys, trainer.run.facts, trainer.run.report.page; print('keras' in sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout == "False\n"
