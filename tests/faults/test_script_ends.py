"""`trainer run`: how a script that is not well ends, and what a second start of one does."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

RUN = [sys.executable, "-m", "trainer", "worker", "--json", "--set=run.dir=run"]
MODEL = """
import sys
import keras, numpy as np, trainer
model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
model.compile("sgd", "mse")
x = np.arange(16.0).reshape(8, 2)
"""
ARGUMENTS = "import argparse; argparse.ArgumentParser().parse_args()"


def run(
    folder: Path, text: str, *arguments: str, settings: Sequence[str] = ()
) -> subprocess.CompletedProcess[str]:
    (folder / "train.py").write_text(text)
    command = [*RUN, *(f"--set={setting}" for setting in settings), "train.py", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize(
    ("text", "code", "message"),
    [
        pytest.param(
            "raise OSError('no network')", 1,
            "train.py raised OSError: no network (train.py:1, in", id="raises",
        ),
        pytest.param(
            MODEL + "trainer.fit(model, x, x[:3], batch_size=2)", 2,
            "its arrays have 3 and 8 records", id="refused",
        ),
        *(
            pytest.param(*end, id=name, marks=pytest.mark.long)
            for name, end in {
                "imports": (
                    "import nothing_like_it", 2,
                    "train.py raised ModuleNotFoundError: No module named",
                ),
                "syntax": ("x = ", 2, "train.py raised SyntaxError: invalid syntax"),
                "arguments": (
                    ARGUMENTS, 2, "train.py ended with sys.exit(2): its arguments are wrong",
                ),
                "exits": ("import sys; sys.exit(3)", 1, "train.py ended with sys.exit(3)"),
            }.items()
        ),
    ],
)  # fmt: skip
def test_a_script_that_fails(tmp_path: Path, text: str, code: int, message: str) -> None:
    ended = run(tmp_path, text, "--epoch")
    assert ended.returncode == code, ended.stderr
    last = json.loads(ended.stderr.splitlines()[-1])
    assert last["code"] == code
    assert message in last["message"]
    # Its own lines alone, not those that run it.
    assert "runpy" not in ended.stderr


def test_a_second_start(tmp_path: Path) -> None:
    text = MODEL + "trainer.fit(model, x, x[:, :1], epochs=int(sys.argv[1]))\nprint('to the end')"
    first = run(tmp_path, text, "2")
    assert "to the end" in first.stdout, first.stderr
    again = run(tmp_path, text, "2")
    assert again.returncode == 0
    assert "to the end" not in again.stdout  # complete: nothing is run again
    assert json.loads(again.stdout.splitlines()[-1])["fits"] == 1
    longer = run(tmp_path, text, "3")
    assert "to the end" in longer.stdout, longer.stderr
    events = [json.loads(line) for line in longer.stdout.splitlines() if line[0] == "{"]
    assert [event["step"] for event in events if event["event"] == "restore"] == [2]
    assert events[-1]["steps"] == 3
    for command in ("evaluate", "export"):
        words = [sys.executable, "-m", "trainer", command, str(tmp_path / "run")]
        refused = subprocess.run(words, capture_output=True, text=True, timeout=60)
        assert refused.returncode == 2
        assert "is of a script, whose model only the script makes: let it call" in refused.stderr


@pytest.mark.long
def test_a_script_that_trains_nothing_says_so_and_may_train_later(tmp_path: Path) -> None:
    ended = run(tmp_path, "print(__name__)")
    assert ended.returncode == 0
    assert "never called trainer.fit" in ended.stdout
    later = run(tmp_path, MODEL + "trainer.fit(model, x, x[:, :1])")
    assert later.returncode == 0, later.stderr


STOPS = """
import os, signal
class Stops(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        if batch == 2:
            os.kill(os.getpid(), signal.SIGTERM)
trainer.fit(model, x, x[:, :1], batch_size=1, epochs=2, callbacks=[Stops()])
"""


def test_a_stop_is_agreed_saved_and_told(tmp_path: Path) -> None:
    ended = run(tmp_path, MODEL + STOPS, "--token=hunter2")
    assert ended.returncode == 75, ended.stderr
    (stopped,) = [json.loads(line) for line in ended.stdout.splitlines() if '"stopped"' in line]
    assert "saved" in stopped["reason"]
    assert "hunter2" not in ended.stdout + ended.stderr


FAILS = """
class Fails(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        raise OSError('no network')
for _ in range(2):
    try:
        trainer.fit(model, x, x[:, :1], batch_size=1, epochs=2, callbacks=[Fails()])
    except Exception as error:
        print('caught', type(error).__name__)
"""
WRAPS = """
try:
    trainer.fit(model, x * np.nan, x[:, :1], batch_size=1)
except Exception as error:
    raise RuntimeError("training failed") from error
"""
LEAVES = """
try:
    trainer.fit(model, x * np.nan, x[:, :1], batch_size=1)
except Exception:
    sys.exit(1)
"""
READS = """
batches = ((x, x[:, :1]) for _ in range(100))
trainer.fit(model, batches, steps_per_epoch=2)
try:
    trainer.fit(model, batches, steps_per_epoch=2)
except Exception:
    pass
"""
CATCHES = """
try:
    exec(STOPS)
except BaseException:
    sys.exit(1)
"""


@pytest.mark.parametrize(
    ("text", "code"),
    [
        pytest.param(FAILS, 1, id="fails", marks=pytest.mark.long),
        pytest.param(LEAVES, 4, id="leaves", marks=pytest.mark.long),
        pytest.param(WRAPS, 4, id="wraps", marks=pytest.mark.long),
        pytest.param(READS, 2, id="reads", marks=pytest.mark.long),
        pytest.param(f"STOPS = {STOPS!r}" + CATCHES, 75, id="stops"),
    ],
)
def test_a_script_that_catches_it_is_not_complete(tmp_path: Path, text: str, code: int) -> None:
    ended = run(tmp_path, MODEL + text)
    assert ended.returncode == code, ended.stderr
    assert "trainer.fit failed, whatever the script did" in ended.stdout
    assert not (tmp_path / "run" / "summary.json").exists()
    # What was broken off is not trained on a second time in this life.
    assert ended.stdout.count('"event": "restore"') == 1


ONCE = """
import os
class Ends(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        if batch == 5:
            os._exit(9)
if not os.path.exists("begun"):
    open("begun", "w").close()
    trainer.fit(model, x, x[:, :1], batch_size=1, epochs=2, callbacks=[Ends()])
print("to the end")
"""


def test_a_run_is_not_complete_without_a_call_that_was_begun(tmp_path: Path) -> None:
    settings = ("checkpoint.every_steps=2", "train.steps_per_call=1", "checkpoint.background=false")
    own = "trainer.setup(overrides=[])\n"
    first = run(tmp_path, MODEL + own + ONCE, settings=settings)
    assert first.returncode == 9, first.stderr
    ended = run(tmp_path, MODEL + own + ONCE, settings=settings)
    assert "to the end" in ended.stdout
    assert ended.returncode == 5, ended.stderr
    assert "without call 1 of trainer.fit, and run" in ended.stderr
    assert "is in call 1 (step 4): make the same calls in each life" in ended.stderr
    assert not (tmp_path / "run" / "summary.json").exists()


SLOW = """
import time
time.sleep(9)
trainer.fit(model, x, x[:, :1], batch_size=1)
time.sleep(9)
"""

HANGS = """
class Hangs(keras.utils.PyDataset):
    def __len__(self):
        return 4
    def __getitem__(self, number):
        if number == 2:
            time.sleep(60)
        return x, x[:, :1]
trainer.evaluate(model, Hangs())
"""


@pytest.mark.long
@pytest.mark.parametrize(("text", "code"), [(SLOW, 0), ("import time" + HANGS, 7)])
def test_a_scripts_own_code_may_take_its_time(tmp_path: Path, text: str, code: int) -> None:
    (tmp_path / "train.py").write_text(MODEL + text)
    command = [sys.executable, "-m", "trainer", "run", "--json", "--set=run.dir=run"]
    command += ["--set=run.hang_seconds=6", "--set=metrics.enabled=false"]
    command += ["--set=run.max_restarts=0", "train.py"]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert ended.returncode == code, ended.stderr
    assert ("worker hangs" in ended.stdout) == (code == 7)
