"""Ctrl-C while nothing can be lost: the process leaves at once, and says so."""

import signal
import sys

from tests.terminal import on_terminal


def test_ctrl_c_during_the_import_says_that_nothing_is_lost(tmp_path):
    command = [sys.executable, "-m", "trainer", "train", "-c", "fashion_mnist"]
    command += ["--set", f"run.dir={tmp_path / 'run'}", "--set", "metrics.enabled=false"]
    with on_terminal(command, columns=80) as terminal:
        terminal.read(until=b"starting TensorFlow")
        terminal.process.send_signal(signal.SIGINT)
        shown = terminal.read()
    assert terminal.process.returncode == 130
    assert "strategy" not in shown
    assert shown.endswith("trainer: stopped, nothing is lost: the same command goes on\r\n")
