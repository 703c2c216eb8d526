"""Kept results of benchmarks: the newest of each measure, with the machine that it is of."""

import json

import pytest

from bench.kept import keep
from bench.pairs import Result

MACHINE = {"date": "2026-01-01", "cpu": "A", "cores": 2, "system": "Linux", "python": "3.11"}
MACHINE["versions"] = {"numpy": "2.0"}
LATER = {**MACHINE, "date": "2026-02-01"}


def result(name, ratio):
    return Result(name, ratio, 0.1, 0.9, "higher", {"ours": f"{ratio} s"})


@pytest.fixture
def kept(tmp_path):
    """What stands in the folder after some sittings: (date, {measure: ratio}) of each."""

    def after(*sittings):
        for machine, *ratios in sittings:
            keep(tmp_path, machine, [result(name, ratio) for name, ratio in ratios])
        tree = json.loads((tmp_path / "results.json").read_text())
        return [(s["machine"]["date"], {r["name"]: r["ratio"] for r in s["results"]}) for s in tree]

    return after


def test_what_is_measured_again_replaces_itself_alone(kept, tmp_path):
    found = kept((MACHINE, ("one", 1.0), ("two", 2.0)), (LATER, ("two", 3.0)))
    assert found == [("2026-02-01", {"two": 3.0}), ("2026-01-01", {"one": 1.0})]


def test_a_sitting_goes_on_and_an_empty_one_goes(kept):
    found = kept(
        (MACHINE, ("one", 1.0)), (LATER, ("one", 2.0)), (LATER, ("two", 3.0)), (LATER, ("one", 4.0))
    )
    assert found == [("2026-02-01", {"one": 4.0, "two": 3.0})]
