"""The bar keeps to one line of the terminal, and log lines are printed above it."""

import io
import json
import logging
import re
import sys

import pytest
from rich.console import Console

from tests.terminal import on_terminal
from trainer.callbacks.progress import ProgressBar, ProgressEvents
from trainer.log import configure_logging, get_log


class Log:
    def __init__(self):
        self.events = []

    def info(self, event, **facts):
        self.events.append({"event": event, **facts})


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def shown(width, logs, target=158, steps=79):
    """The last line of a bar after some steps of 64 records, one every 0.1 s."""
    clock, screen = Clock(), io.StringIO()
    console = Console(file=screen, width=width, force_terminal=True, color_system=None)
    bar = ProgressBar(console, Log(), batch_size=64, start=0, target=target, clock=clock)
    bar.on_train_begin()
    for step in range(steps):
        clock.now += 0.1
        bar.on_train_batch_end(step, logs)
    bar.on_train_end()
    last = screen.getvalue().split("\r")[-1]
    return last.replace("\x1b[2K", "").replace("\x1b[?25h", "").removesuffix("\n")


def test_bar_at_80_columns():
    line = shown(80, {"accuracy": 0.404, "loss": 1.5525})
    for text in ("step", "79/158", "loss 1.5525", "accuracy 0.4040", "640 examples/s", "ETA 0:"):
        assert text in line
    assert line.index("loss") < line.index("accuracy")


@pytest.mark.parametrize("width", [80, 60])
def test_many_metrics_are_cut_and_nothing_else(width):
    logs = {f"metric_{number}": 0.5 for number in range(6)} | {"loss": 123.4567}
    line = shown(width, logs, target=1_000_000)
    assert len(line) <= width
    assert "\n" not in line
    assert "79/1000000" in line
    assert "640 examples/s ETA" in line
    assert "…" in line


@pytest.mark.parametrize("is_terminal", [True, False])
def test_log_lines_go_above_the_bar_and_back(monkeypatch, is_terminal):
    screen = io.StringIO()
    monkeypatch.setattr(sys, "stdout", screen)
    handlers = logging.getLogger().handlers
    try:
        configure_logging(as_json=False, stream=screen)
        console = Console(file=screen, width=80, force_terminal=is_terminal, color_system=None)
        bar = ProgressBar(console, get_log(), batch_size=1, start=0, target=2)
        bar.on_train_begin()
        get_log().info("epoch", loss=1)
        bar.close()
        get_log().info("report")
    finally:
        logging.getLogger().handlers = handlers
    before_the_event = screen.getvalue().split("epoch")[0].rpartition("\n")[2]
    # Written by the bar: at the start of a line that was cleared first.
    assert before_the_event.rpartition("\r")[2].startswith("\x1b[2K") == is_terminal
    assert screen.getvalue().rstrip().endswith("report")


SETTINGS = (
    "recipe=tests.faults.recipe:recipe", "data.url=builtin:fashion_mnist", "data.batch_size=64",
    "data.train=train[:640]", "data.validation=test[:70]", "data.test=test[:70]", "train.epochs=2",
    "checkpoint.every_steps=3", "train.steps_per_call=1", "metrics.enabled=false",
    "export.formats=[]",
)  # fmt: skip


@pytest.mark.long
def test_no_bar_is_left_above_the_last_one(tmp_path):
    sets = [f"--set={setting}" for setting in (*SETTINGS, f"run.dir={tmp_path / 'run'}")]
    (tmp_path / "run.yaml").write_text("train: {}\n")
    command = [sys.executable, "-m", "trainer", "train", "-c", str(tmp_path / "run.yaml"), *sets]
    with on_terminal(command, columns=200) as terminal:
        shown = terminal.read()
    assert terminal.process.returncode == 0
    # What stays on the screen: of every row, all after it was cleared for the last time.
    rows = [row.rpartition("\x1b[2K")[2] for row in shown.split("\n")]
    rows = [re.sub(r"\x1b\[[\d;?]*\w", "", row) for row in rows]
    assert len([row for row in rows if "val_loss=" in row]) == 2
    assert len([row for row in rows if "checkpoint" in row and "sha256=" in row]) > 2
    (bar,) = [row for row in rows if "examples/s" in row]
    assert "20/20" in bar


def test_events_tell_rate_and_time_left():
    clock, log = Clock(), Log()
    events = ProgressEvents(log, batch_size=10, start=0, target=100, every_seconds=5, clock=clock)
    for step in range(51):
        clock.now += 1 / 9.99
        events.on_train_batch_end(step, {"loss": 0.123456})
    first, event = log.events
    assert first == {"event": "first step", "step": 1}
    assert event["step"] == 50
    assert event["loss"] == 0.12346
    assert event["examples_per_second"] == pytest.approx(99.9, abs=0.1)
    assert event["eta_seconds"] == pytest.approx(5.0, abs=0.1)


def test_metrics_may_be_called_as_fields_of_events_are():
    stream = io.StringIO()
    configure_logging(as_json=True, stream=stream)
    taken = {"step": 0.25, "event": 0.5, "level": 1.0, "exc_info": 2.0, "self": 3.0, "loss": 4.0}
    events = ProgressEvents(
        get_log(), batch_size=64, start=0, target=9, every_seconds=0.0, clock=Clock()
    )
    events.on_train_batch_end(0, taken)
    events.on_epoch_end(0, taken)
    told = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [each["event"] for each in told] == ["first step", "progress", "epoch"]
    for each in told[1:]:
        assert (each["step"], each["level"], each["loss"]) == (1, "info", 4.0)
        assert {name: each[f"metric_{name}"] for name in taken if name != "loss"} == {
            name: value for name, value in taken.items() if name != "loss"
        }
