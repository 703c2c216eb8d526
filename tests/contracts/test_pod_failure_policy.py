"""One table of exit codes: the chart's policy, errors.py, the agent and the docs agree on it."""

import re
import signal
from pathlib import Path

import yaml

from trainer import errors
from trainer.errors import ENDS_RUN

ROOT = Path(__file__).parents[2]
ACTIONS = yaml.safe_load((ROOT / "helm/trainer/files/exit-codes.yaml").read_text())
CODES = {e.exit_code for e in vars(errors).values() if isinstance(e, type)}
SIGNALS = {128 + signal.SIGINT, 128 + signal.SIGTERM}


def test_a_job_fails_at_once_where_another_start_would_end_alike():
    assert ACTIONS["FailJob"] == list(ENDS_RUN)
    assert set(ACTIONS["FailJob"]) <= CODES


def test_a_stop_and_a_group_that_is_late_are_no_failures():
    assert set(ACTIONS["Ignore"]) == {errors.GatheringError.exit_code} | SIGNALS


def test_all_other_codes_count():
    assert ACTIONS.keys() == {"FailJob", "Ignore"}
    counted = CODES - {code for codes in ACTIONS.values() for code in codes}
    # 75 is that of `trainer worker`, which no pod runs.
    assert counted == {1, errors.StoppedError.exit_code}


def test_the_page_says_the_same():
    page = (ROOT / "docs" / "kubernetes.md").read_text()
    told = {}
    for codes, action in re.findall(r"^\| ([\d, -]+) \| (FailJob|Ignore|Count) \|", page, re.M):
        for first, last in re.findall(r"(\d+)(?:-(\d+))?", codes):
            told |= dict.fromkeys(range(int(first), int(last or first) + 1), action)
    expected = {code: action for action, codes in ACTIONS.items() for code in codes}
    assert {code: action for code, action in told.items() if action != "Count"} == expected
    assert told[1] == "Count"
