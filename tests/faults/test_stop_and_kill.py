"""Stop and kill: whatever happens to the process, the run ends as if nothing had."""

import os
import pty
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress

import pytest

from tests.faults.harness import (
    ROOT,
    SMALL,
    Run,
    disturbed_and_calm,
    finish,
    kill_at_random_steps,
    signal_at,
    storage_fault,
)
from tests.small_storage import paths
from trainer.storage import open_storage

SIGKILLED = -signal.SIGKILL


def test_f01_killed_at_random_steps(run, undisturbed):
    starts = kill_at_random_steps(run, kills=5, steps=18, seed=1)
    assert len(set(starts)) > 2
    finish(run, undisturbed)


@pytest.mark.long
@pytest.mark.timeout(900)
def test_f01_killed_at_25_random_steps(zygote, tmp_path, record_property):
    settings = {"train.epochs": 10}
    calm = Run(zygote, tmp_path / "calm", settings)
    run = Run(zygote, tmp_path / "killed", settings)
    for folder in (calm.folder, run.folder):
        folder.mkdir()
    assert calm.train().code == 0
    starts = kill_at_random_steps(run, kills=25, steps=90, seed=2)
    record_property("kills", len(run.fired()))
    assert len(set(starts)) > 10
    finish(run, calm)


@pytest.mark.timeout(300)
def test_f02_killed_at_every_storage_operation_of_a_save(zygote, tmp_path, undisturbed):
    saved = Run(zygote, tmp_path / "saved")
    saved.folder.mkdir()
    once = {"checkpoint__every_steps": None, "checkpoint__keep_last": 1}
    assert saved.train(train__epochs=1, **once).code == 0
    seen = []
    # Reads and lists leave the disk as it is: a kill at one is a kill at the next change.
    for at in range(1, 50):
        run = Run(zygote, tmp_path / str(at))
        shutil.copytree(saved.folder, run.folder)
        life = run.train(storage=storage_fault("kill", at, "write create delete"), **once)
        if life.code == 0:
            break
        assert life.code == SIGKILLED, life.text()
        assert len(run.fired()) == 1
        seen.append(run.committed())
        assert run.last().manifest.step == seen[-1][-1]
        finish(run, undisturbed)
    # Part, manifest and marker; then the marker, manifest and part of the one before.
    assert seen == [[9]] * 3 + [[9, 18]] + [[18]] * 2
    assert run.committed() == [18]


@pytest.mark.long
@pytest.mark.timeout(300)
def test_f02_killed_at_every_change_of_the_runs_folder(zygote, tmp_path, undisturbed):
    """Lease, configuration, record, summary: in a first life and in one that goes on."""
    for at in range(1, 50):
        run = Run(zygote, tmp_path / str(at))
        run.folder.mkdir()
        fault = storage_fault("kill", at, "write create replace delete", folder="/run")
        life = run.train(storage=fault, callbacks=[signal_at(6)], checkpoint__background=False)
        assert life.code == SIGKILLED, life.text()
        if "SignalAt" in run.fired()[0]:
            break
        assert len(run.fired()) == 1
        finish(run, undisturbed)
    # Lease, record, configuration, no summary, what the lease goes on from, the first checkpoint.
    assert at > 6
    for at in range(1, 50):
        run = Run(zygote, tmp_path / f"second-{at}")
        run.folder.mkdir()
        first = run.train(callbacks=[signal_at(6)], checkpoint__background=False)
        assert first.code == SIGKILLED
        fault = storage_fault("kill", at, "write create replace delete", folder="/run")
        life = run.train(storage=fault)
        if life.code == 0:
            break
        assert life.code == SIGKILLED, life.text()
        if "summary.json" in paths(open_storage(run.url)):
            assert run.train().events("complete"), "killed when all was done"
            assert run.sha256() == undisturbed.sha256()
        else:
            finish(run, undisturbed)
    assert at > 6


def test_f03_killed_twice_before_the_first_checkpoint(run, undisturbed):
    for at in (2, 3):
        assert run.train(callbacks=[signal_at(at)]).code == SIGKILLED
        assert run.committed() == []
    finish(run, undisturbed)
    restore = run.lives[-1].events("restore")[0]
    assert restore["step"] == 0
    assert "no checkpoint" in restore["reason"]


@pytest.mark.long
@pytest.mark.parametrize("engine", ["loop", "fit"])
def test_a_warm_start_that_was_killed_begins_with_the_same_weights(zygote, tmp_path, engine):
    origin, calm, run = (Run(zygote, tmp_path / name) for name in ("origin", "calm", "killed"))
    for each in (origin, calm, run):
        each.folder.mkdir()
    assert origin.train(train__epochs=1).code == 0
    warm = {"train.start_from": str(origin.dir), "train.engine": engine, "train.seed": 1}
    for each in (calm, run):
        each.settings = warm | {"checkpoint.every_steps": None}
    assert calm.train().code == 0, calm.lives[0].text()
    assert run.train(callbacks=[signal_at(2)]).code == SIGKILLED
    # What "last" means has changed by now, and then there is none.
    assert origin.train(train__epochs=2).code == 0
    shutil.rmtree(origin.dir)
    finish(run, calm)
    assert run.lives[1].events("restore")[0]["step"] == 0


def test_f04_sigterm_inside_a_step(zygote, run, tmp_path):
    calm = Run(zygote, tmp_path / "calm", {"recipe": "tests.faults.recipe:recording"})
    calm.folder.mkdir()
    assert calm.train().code == 0
    run.settings["recipe"] = "tests.faults.recipe:recording"
    life = run.train(environ={"FAULT_IN_STEP": "SIGTERM:6"})
    assert run.fired() == ["SIGTERM inside step 6"]
    assert life.code == 75, life.text()
    stopped_at = run.committed()[-1]
    assert stopped_at > 6
    assert f"stopped at step {stopped_at}, saved" in life.text()
    finish(run, calm)


def test_f05_sigterm_during_a_save(run, undisturbed):
    # The first save is of step 4: the signal comes while its first part is written.
    fault = storage_fault("signal", 1, "write", seconds=0.5)
    life = run.train(storage=fault)
    assert len(run.fired()) == 1
    assert life.code == 75, life.text()
    assert run.committed()[0] == 4
    assert f"stopped at step {run.committed()[-1]}, saved" in life.text()
    for found in run.checkpoints.all():
        writers = [entry.name for entry in (run.dir / "checkpoints" / found.name).iterdir()]
        assert found.committed, writers
        assert len(writers) == 2, writers
    finish(run, undisturbed)


def test_f05_sigterm_during_the_last_save(run, undisturbed):
    fault = storage_fault("signal", 1, "write", seconds=0.5)
    life = run.train(storage=fault, checkpoint__every_steps=None, checkpoint__every_epochs=None)
    # Saved either way: it is told to stop before it waits for this save, or while it does.
    assert life.code in (75, 143), life.text()
    assert run.committed() == [18]
    assert len(life.events("checkpoint")) == 1
    assert not (run.dir / "summary.json").exists()
    finish(run, undisturbed)


def test_f05_sigterm_as_the_last_save_fails(run, undisturbed):
    fault = storage_fault("signal and fail", 1, "write")
    at_the_end = {f"checkpoint__every_{what}": None for what in ("steps", "epochs")}
    life = run.train(storage=fault, checkpoint__background=False, **at_the_end)
    assert len(run.fired()) == 1
    assert life.code == 75, life.text()
    assert run.committed() == [18]
    finish(run, undisturbed)


def test_f08_sigterm_during_import(tmp_path):
    sets = [f"--set={key}={value}" for key, value in SMALL.items()]
    sets += [
        f"--set=run.dir={tmp_path / 'run'}",
        "--set=metrics.enabled=true",
        "--set=metrics.port=0",
    ]
    (tmp_path / "run.yaml").write_text("train: {}\n")
    with subprocess.Popen(
        [sys.executable, "-m", "trainer", "train", "-c", str(tmp_path / "run.yaml"), *sets],
        stdout=subprocess.PIPE, text=True, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)},
    ) as process:  # fmt: skip
        # The page is served just before TensorFlow is imported, which takes seconds.
        assert '"metrics"' in process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 143
        assert "strategy" not in process.stdout.read()
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_f08_sigterm_during_the_first_trace(run, undisturbed):
    life = run.start()
    life.wait_for("train")
    life.signal(signal.SIGTERM)
    assert life.wait(20) == 143
    assert run.committed() == []
    assert not life.events("epoch")
    finish(run, undisturbed)


@pytest.mark.parametrize("signals", [1, 2], ids=["before a step", "again during a save"])
def test_a_signal_leaves_the_terminal_its_cursor(run, signals):
    ours, theirs = pty.openpty()
    run.folder.joinpath("output-0.txt").symlink_to(os.ttyname(theirs))
    fault = storage_fault("signal", 1, "write", seconds=30) if signals == 2 else None
    life = run.start(storage=fault, environ={"TERM": "xterm"}, train__grace_seconds=25)
    shown = b""
    while b"\x1b[?25l" not in shown or (signals == 2 and not run.fired()):
        shown += os.read(ours, 4096)
    # Not SIGTERM, which could be taken for one with the fault's.
    life.signal(signal.SIGINT)
    assert life.zygote.ask({"wait": life.pid, "seconds": 20})["code"] in (130, 143)
    os.set_blocking(ours, False)
    with suppress(BlockingIOError):
        while more := os.read(ours, 4096):
            shown += more
    os.close(ours)
    os.close(theirs)
    assert shown.rindex(b"\x1b[?25h") > shown.rindex(b"\x1b[?25l")


def test_f09_sigterm_during_the_export(run, undisturbed):
    fault = storage_fault("signal", 1, "write", seconds=5) | {"folder": "/model"}
    export = {"export__formats": ["keras"]}
    life = run.train(storage=fault, **export)
    assert len(run.fired()) == 1
    assert life.code == 143, life.text()
    assert not (run.dir / "summary.json").exists()
    assert [path.name for path in (run.dir / "model").iterdir()] == [".tmp-export"]
    again = run.train(**export)
    assert again.code == 0, again.text()
    assert not again.events("epoch"), again.text()
    assert run.sha256() == undisturbed.sha256()
    assert [path.name for path in (run.dir / "model").iterdir()] == ["model.keras"]


def test_sigterm_in_validation_starts_the_pass_again(zygote, tmp_path):
    noisy = {"recipe": "tests.faults.recipe:noisy"}
    run, calm = disturbed_and_calm(zygote, tmp_path, noisy)
    life = run.train(callbacks=[signal_at(2, "SIGTERM", "on_test_batch_end")])
    assert life.code == 75, life.text()
    assert run.last().manifest.state["position"]["phase"] == "validate"
    finish(run, calm)


def test_a_stop_by_callback_survives_a_signal_in_its_validation(zygote, tmp_path):
    stop = {"name": "tests.faults.inject:StopAt", "args": {"at": 5}, "stateless": True}
    calm, run = (Run(zygote, tmp_path / name) for name in ("calm", "disturbed"))
    for each in (calm, run):
        each.folder.mkdir()
    assert calm.train(callbacks=[stop]).code == 0
    life = run.train(callbacks=[stop, signal_at(1, "SIGTERM", "on_test_batch_end")])
    assert life.code == 75, life.text()
    finish(run, calm)
    assert run.summary()["steps"] == 5
    assert run.summary()["epochs"] == 1
    assert run.summary()["stopped_early"]


@pytest.mark.long
def test_sigterm_under_engine_fit_waits_for_the_save_in_flight(run, undisturbed):
    fit = {"train__engine": "fit", "checkpoint__every_steps": None}
    slow = storage_fault("stall", 1, "write", seconds=1.0)
    life = run.train(callbacks=[signal_at(11, "SIGTERM")], storage=slow, **fit)
    assert life.code == 75, life.text()
    assert run.committed() == [9]
    assert run.train(**fit).code == 0
    assert run.sha256() == undisturbed.sha256()


def test_a_stalled_save_does_not_outlast_the_grace(run):
    # The save of step 4 stalls for longer than the grace; the signal comes three steps later.
    stalled = storage_fault("stall", 1, "write", seconds=40)
    life = run.start(callbacks=[signal_at(7, "SIGTERM")], storage=stalled, train__grace_seconds=2.0)
    while not any("SignalAt" in line for line in run.fired()):
        assert time.monotonic() < life.deadline
        time.sleep(0.01)
    started = time.monotonic()
    assert life.wait(20) == 75
    assert time.monotonic() - started < 3.5
    assert "not committed within 2 s" in life.text()


@pytest.mark.parametrize("engine", ["loop", pytest.param("fit", marks=pytest.mark.long)])
def test_f09_the_end_of_training_is_made_up_for(zygote, tmp_path, engine):
    # Early stopping puts the best weights back after the last save: the export needs them.
    stopping = {"monitor": "val_loss", "patience": 99, "restore_best_weights": True}
    settings = {
        "callbacks": [{"name": "early_stopping", "args": stopping}],
        "params.learning_rate": 0.5,
        "train.epochs": 3,
        "checkpoint.every_steps": None,
        "train.engine": engine,
        "export.formats": ["keras"],
    }
    run, calm = disturbed_and_calm(zygote, tmp_path, settings)
    fault = storage_fault("signal", 1, "write", seconds=5) | {"folder": "/model"}
    assert run.train(storage=fault).code == 143, run.lives[0].text()
    assert run.train().code == 0, run.lives[1].text()
    assert run.summary()["test"] == calm.summary()["test"]
    losses = run.summary()["history"]["val_loss"]
    assert losses[-1] > min(losses) == pytest.approx(run.summary()["test"]["loss"], rel=1e-5)


def modified(run: Run) -> dict[str, int]:
    """When each file of the checkpoints was last changed."""
    return {str(path): path.stat().st_mtime_ns for path in (run.dir / "checkpoints").rglob("*")}


def test_f10_started_again_after_completion(run, undisturbed):
    finish(run, undisturbed)
    before = modified(run)
    life = run.train()
    assert life.code == 0
    assert life.events("complete")
    assert not life.events("strategy")
    assert modified(run) == before


def test_a_second_signal_quits_at_once(run):
    fault = storage_fault("stall", 1, "write", seconds=30)
    life = run.start(storage=fault, train__grace_seconds=25)
    while not run.fired():
        assert time.monotonic() < life.deadline
        time.sleep(0.01)
    life.signal(signal.SIGTERM)
    time.sleep(0.5)
    life.signal(signal.SIGTERM)
    assert life.wait(5) == 143


def test_a_larger_number_of_epochs_goes_on(run, undisturbed):
    assert run.train(train__epochs=1).code == 0
    finish(run, undisturbed)
    assert run.lives[-1].events("restore")[0]["step"] == 9


@pytest.mark.parametrize(
    ("at", "steps"),
    [
        pytest.param(16, 12, id="in an epoch"),
        pytest.param(20, 18, id="at its end", marks=pytest.mark.long),
    ],
)
def test_a_smaller_number_of_epochs_tells_what_was_trained(run, undisturbed, at, steps):
    save = {"checkpoint__every_steps": 6, "checkpoint__background": False}
    life = run.train(callbacks=[signal_at(at)], train__epochs=3, **save)
    assert life.code == SIGKILLED
    assert run.train(train__epochs=1, **save).code == 0, run.lives[1].text()
    assert (run.summary()["steps"], run.summary()["epochs"]) == (steps, steps // 9)
    # Two epochs, as many as the undisturbed run has: begun, or there already.
    assert run.train(**save).code == 0, run.lives[2].text()
    assert bool(run.lives[2].events("complete")) == (steps == 18)
    assert run.sha256() == undisturbed.sha256()


@pytest.mark.parametrize(
    ("engine", "every", "epoch"),
    [
        ("loop", "steps", 1),
        pytest.param("loop", None, 2, marks=pytest.mark.long),
        pytest.param("loop", "epochs", 2, marks=pytest.mark.long),
        pytest.param("fit", "epochs", 2, marks=pytest.mark.long),
    ],
)
def test_a_csv_file_has_each_epoch_once(zygote, tmp_path, engine, every, epoch):
    """Killed when the row of an epoch is written, but its end is not saved."""
    settings = {
        "callbacks": [{"name": "csv_logger", "args": {"filename": "log.csv"}}],
        "checkpoint.every_epochs": 1 if every == "epochs" else None,
        "checkpoint.every_steps": 5 if every == "steps" else None,
        "checkpoint.background": False,
        "train.engine": engine,
        "train.epochs": 3,
    }
    run, calm = disturbed_and_calm(zygote, tmp_path, settings)
    kill = signal_at(epoch, hook="on_epoch_end")
    assert run.train(callbacks=[*settings["callbacks"], kill]).code == SIGKILLED
    assert (run.folder / "log.csv").read_text().count("\n") == 1 + epoch
    finish(run, calm)
    assert (run.folder / "log.csv").read_bytes() == (calm.folder / "log.csv").read_bytes()
