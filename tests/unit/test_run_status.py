"""`trainer runs list`, `status` and `watch`."""

import json
import os
import pty
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tests.small_report import folder, objects
from trainer.cli import run_status
from trainer.cli.runs import runs
from trainer.durations import in_words
from trainer.errors import ConfigError
from trainer.run import ledger

WATCH = [sys.executable, "-m", "trainer", "runs", "watch", "--every", "0.5"]


def show(*args: Any) -> Result:
    result = CliRunner().invoke(runs, [str(arg) for arg in args])
    if result.exception is not None:
        raise result.exception
    return result


def test_a_list_has_a_row_for_each_run_and_none_for_other_folders(tmp_path: Path) -> None:
    folder(tmp_path, "done")
    folder(tmp_path, "half", is_complete=False)
    (tmp_path / "notes").mkdir()
    head, _, done, half = show("list", tmp_path).output.splitlines()
    assert head.split()[:3] == ["RUN", "STATE", "STEP"]
    assert done.split()[:6] == ["done", "complete", "600", "of", "600", "(100"]
    assert half.split()[:6] == ["half", "stopped", "450", "of", "600", "(75"]
    assert " step 450, " in half


def test_a_list_for_machines(tmp_path: Path) -> None:
    folder(tmp_path, "half", is_complete=False)
    [run] = json.loads(show("list", tmp_path, "--json").output)
    assert (run["name"], run["state"], run["step"], run["target"]) == ("half", "stopped", 450, 600)
    assert run["checkpoint"]["step"] == 450
    assert run["restarts"] == 1
    assert run["eta_seconds"] is None
    assert sum(run["seconds"].values()) == pytest.approx(run["wall_seconds"])
    assert [life["reason"] for life in run["generations"]] == ["killed", "stopped"]


@pytest.mark.parametrize("path", ["..", "link/.."])
def test_the_folder_may_be_named_upwards(
    path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Path(folder(tmp_path, "done").url)
    (run / "link").symlink_to(run)
    monkeypatch.chdir(run)
    assert "done" in show("list", path).output


def test_an_empty_list_says_so(tmp_path: Path) -> None:
    assert show("list", tmp_path).output == f"no runs right below {tmp_path}\n"
    absent, file, run = tmp_path / "absent", tmp_path / "file", folder(tmp_path).url
    assert show("list", absent).output.endswith(f"{absent}: there is no such folder\n")
    file.touch()
    assert show("list", file).output.endswith(f"{file}: it is a file\n")
    assert f"it is a run itself, see trainer runs status {run}" in show("list", run).output


def test_a_run_that_cannot_be_read_hides_no_other(tmp_path: Path, monkeypatch: Any) -> None:
    folder(tmp_path, "bad")
    folder(tmp_path, "good")
    read = run_status.facts_of

    def fail(url: str) -> Any:
        if url.endswith("bad"):
            raise OverflowError("too large")
        return read(url)

    monkeypatch.setattr(run_status, "facts_of", fail)
    _, _, bad, good, why = show("list", tmp_path).output.splitlines()
    assert (bad.split(), good.split()[:2]) == (["bad", "unreadable"], ["good", "complete"])
    assert why == "bad: OverflowError: too large"
    bad_run, good_run = json.loads(show("list", tmp_path, "--json").output)
    assert (bad_run["problem"], good_run["problem"]) == ("OverflowError: too large", None)


def test_a_status_tells_progress_time_and_restarts(tmp_path: Path) -> None:
    run = folder(tmp_path, is_complete=False, detail="signal 9")
    before = objects(run)
    said = show("status", run.url).output
    told, spent, _ = said.split("\n\n")
    facts = {line.split()[0]: line.split(maxsplit=1)[1] for line in told.splitlines()}
    assert facts["state"] == "stopped"
    assert facts["step"] == "450 of 600 (75 %)"
    assert facts["goodput"].startswith("55 % of 72.5 s")
    assert ["data_wait", "4.0", "s", "6", "%"] in [line.split() for line in spent.splitlines()]
    assert "killed: signal 9" in said
    assert objects(run) == before


def test_a_status_of_a_failed_run_has_the_reason_at_the_top_and_in_the_table(
    tmp_path: Path,
) -> None:
    run = folder(tmp_path, is_complete=False)
    life = ledger.read(run.storage).generations[-1]
    ledger.write(run.storage, replace(life, reason="failed", detail="the loss is NaN", step=500))
    told, _, ended = show("status", run.url).output.split("\n\n")
    assert "because     the loss is NaN" in told
    assert "450 of 600 (75 %), 500 were reached" in told
    assert [line.split()[0] for line in ended.splitlines()[2:]] == ["1", "2"]
    assert ended.rstrip().endswith("failed: the loss is NaN")


def test_what_a_reason_says_does_not_reach_the_terminal_raw(tmp_path: Path) -> None:
    run = folder(tmp_path, is_complete=False)
    run.storage.delete("goodput/000002.json")
    event = {"time": 1.0, "event": "failure", "reason": "\x1b[2J\x9b \ud800 \u00e9\nend"}
    run.storage.write("events/000002.jsonl", json.dumps(event).encode())
    said = show("status", run.url).output
    assert said.count("\ufffd[2J\ufffd \ufffd \u00e9 end") == 2
    assert "\x1b" not in said


def test_a_life_whose_ledger_is_damaged_is_not_called_lost(tmp_path: Path) -> None:
    run = folder(tmp_path, is_complete=False)
    run.storage.write("goodput/000001.json", b"[")
    said = show("status", run.url).output
    assert "problem     goodput/000001.json in" in said
    assert "lost" not in said


def test_a_status_of_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no run in"):
        show("status", tmp_path)


def test_watching_prints_what_changes_and_ends_with_the_run(tmp_path: Path) -> None:
    run = folder(tmp_path, is_complete=False)
    with subprocess.Popen([*WATCH, run.url], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        run.write_summary({"complete": True, "steps": 600, "epochs": 6})
        rest, _ = process.communicate(timeout=60)
    assert first.split()[:2] == ["demo", "stopped"]
    assert [line.split()[:3] for line in rest.splitlines()] == [["demo", "complete", "600"]]
    assert process.returncode == 0


def test_a_run_that_has_not_begun_is_waited_for(tmp_path: Path) -> None:
    run, pipe = tmp_path / "later", subprocess.PIPE
    with subprocess.Popen([*WATCH, str(run)], stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stderr is not None
        said = process.stderr.readline()
        folder(tmp_path, is_complete=True)
        (tmp_path / "demo").rename(run)
        shown, _ = process.communicate(timeout=60)
    assert said == f"{run} is no run yet: waiting for it to begin\n"
    assert shown.split()[:2] == ["demo", "complete"]
    assert process.returncode == 0


def test_what_can_never_be_a_run_is_not_waited_for() -> None:
    done = subprocess.run([*WATCH, "s3://bucket/run"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "s3" in done.stderr


def test_ctrl_c_ends_watching_quietly_after_it_said_once_why_the_run_ended(tmp_path: Path) -> None:
    run = folder(tmp_path, is_complete=False)
    life = ledger.read(run.storage).generations[-1]
    ledger.write(run.storage, replace(life, reason="failed", detail="the loss is NaN"))
    pipe = subprocess.PIPE
    with subprocess.Popen([*WATCH, run.url], stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(1.5)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert said == "demo failed: the loss is NaN; nobody trains it, still watching\n"
    assert process.returncode == 130


def test_watching_on_a_terminal_shows_the_status(tmp_path: Path) -> None:
    run = folder(tmp_path)
    ours, theirs = pty.openpty()
    with subprocess.Popen([*WATCH, run.url], stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        said = b""
        while b"restarts" not in said:
            said += os.read(ours, 4096)
        assert process.wait(timeout=60) == 0
    os.close(ours)
    assert b"600 of 600 (100 %)" in said


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(float("inf"), "?"), (float("nan"), "?"), (1e300, "?"), (-1, "0.0 s"), (12.34, "12.3 s"),
     (99.96, "1 min 40 s"), (3599.6, "1 h 0 min"), (7260, "2 h 1 min"), (50 * 3600, "2 d 2 h")],
)  # fmt: skip
def test_times_in_words(seconds: float, words: str) -> None:
    assert in_words(seconds) == words
