"""`make emulator`: a store for a person to try."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.needs_gcs


VERIFY = f"{sys.executable} -m trainer data verify gs://demo/data/fashion_mnist"


@pytest.mark.long
def test_it_holds_data_says_how_to_use_it_and_ends_with_ctrl_c(tmp_path):
    command = [sys.executable, ROOT / "scripts" / "emulator.py", tmp_path]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            said = "".join(iter(process.stdout.readline, "Ctrl-C ends it; the objects stay.\n"))
            commands = [line.strip() for line in said.splitlines() if line.startswith("  ")]
            assert len(commands) == 2
            short = " --set train.epochs=1 --set export.formats=[]"
            lines = "\n".join(["set -e", commands[0], commands[1] + short, VERIFY])
            done = subprocess.run(["sh", "-c", lines], cwd=ROOT, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
            assert "ok: every record" in done.stdout
        finally:
            # As a terminal sends it: to all of them.
            os.killpg(process.pid, signal.SIGINT)
        assert process.wait(20) == 0
    assert (tmp_path / "demo" / "runs" / "demo" / "summary.json").is_file()
