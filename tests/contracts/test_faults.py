"""Every fault has a text and tests, and docs/faults.md knows when they passed."""

import subprocess
import sys

import pytest

from scripts.faults import ROOT, find_tests, last_passes, read_faults
from scripts.results import keep

FAULTS = read_faults()


def test_each_fault_is_listed_once_and_has_a_test():
    listed = [fault.id for fault in FAULTS]
    assert listed == sorted(set(listed))
    assert set(listed) == {test.fault for test in find_tests()}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.id)
def test_each_fault_says_what_has_to_come_of_it_and_how_it_is_made(fault):
    for text in (fault.what, fault.made):
        assert text.strip().endswith(".")
    assert ". " not in fault.what, "one sentence"


def test_what_the_page_lists_is_what_the_mark_selects():
    file = "tests/unit/test_tfrecord.py"
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-m", "fault", file]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60).stdout
    selected = {line.split("::")[1].partition("[")[0] for line in said.splitlines() if "::" in line}
    assert selected == {test.name for test in find_tests() if test.file == file} != set()


# Outcomes of `a[1]` and `a[2]` in two runs, and the run whose date is shown.
@pytest.mark.parametrize(
    ("first", "second", "shown"),
    [
        (["passed", "passed"], ["passed", "passed"], 2),
        (["passed", "passed"], ["passed", "failed"], 1),
        (["passed", "passed"], ["skipped", "passed"], 1),
        (["passed", "passed"], [], 1),
        (["passed", "failed"], ["error", "passed"], None),
    ],
)
def test_a_pass_is_one_of_all_parameters(tmp_path, first, second, shown):
    dates = {1: "2026-01-02T03:04:05+00:00", 2: "2026-01-02T04:05:06+00:00"}
    for date, outcomes in zip(dates.values(), (first, second), strict=True):
        tests = [{"test": f"t.a[{i}]", "outcome": outcome} for i, outcome in enumerate(outcomes)]
        keep({"date": date, "tests": tests}, "-faults", tmp_path)
    assert last_passes(tmp_path) == ({"t.a": dates[shown]} if shown else {})


def test_results_of_some_parameters_or_another_backend_are_no_passes(tmp_path):
    for name in ("", "-torch"):
        keep(
            {"date": "2026-01-02", "tests": [{"test": "t.a", "outcome": "passed"}]}, name, tmp_path
        )
    assert last_passes(tmp_path) == {}
