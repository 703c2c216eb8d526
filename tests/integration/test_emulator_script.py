"""`make emulator`: a store for a person to try."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.needs_gcs


def test_it_holds_data_says_how_to_use_it_and_ends_with_ctrl_c(tmp_path):
    command = [sys.executable, ROOT / "scripts" / "emulator.py", tmp_path]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            said = "".join(iter(process.stdout.readline, "Ctrl-C ends it; the objects stay.\n"))
            host = re.search(r"STORAGE_EMULATOR_HOST=(\S+)", said)[1]
            url = re.search(r"data\.url=(\S+)", said)[1]
            verify = [sys.executable, "-m", "trainer", "data", "verify", url]
            environ = os.environ | {"STORAGE_EMULATOR_HOST": host, "PYTHONPATH": str(ROOT)}
            checked = subprocess.run(verify, env=environ, capture_output=True, text=True)
            assert checked.stdout.startswith("ok: every record"), checked.stderr
        finally:
            # As a terminal sends it: to all of them.
            os.killpg(process.pid, signal.SIGINT)
        assert process.wait(20) == 0
    assert (tmp_path / "demo").is_dir()
