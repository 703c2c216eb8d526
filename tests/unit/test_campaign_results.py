"""What is kept of a campaign, and taken up again."""

import json
from dataclasses import replace

import pytest

from tests.campaign.plans import Plan, World
from tests.campaign.results import (
    Head,
    Kill,
    Outcome,
    Undisturbed,
    open_results,
    read_results,
    this_head,
)  # fmt: skip
from trainer.chaos.result import Calm, Ending
from trainer.errors import TrainerError

HEAD = Head(
    "code", "aaaa1111", "2030-01-01T00:00:00+00:00", "0123456789abcdef", "Linux", {"keras": "3"}
)
WORLD = World((2, 1), (5, 10))
CALM = Calm(Ending(200, "ab12", {"loss": [0.1 + 0.2, 1e-9]}), 12.5, 3.25, 0.26)
UNDISTURBED = Undisturbed(WORLD, (CALM, CALM))
PLAN = Plan(7, WORLD, "gs", (1, 1), 99)
KILL = Kill("leader", 2, "saving", 0.1, 1.0, None, None)
OUTCOME = Outcome(
    PLAN, "2030-01-02T00:00:00+00:00", 60.5, (), (KILL,), 400, 0, 12, 4, {"step": 3.5}
)


@pytest.fixture
def file(tmp_path):
    results = open_results(tmp_path, HEAD)
    for line in (UNDISTURBED, OUTCOME):
        results.add(line)
    return results.file


def test_all_of_it_comes_back_with_the_same_bits(file):
    found = read_results(file)
    assert (found.head, found.undisturbed, found.outcomes, found.num_kills) == (
        HEAD, {WORLD: UNDISTURBED}, {PLAN: OUTCOME}, 1,
    )  # fmt: skip


def test_the_same_code_goes_on_in_the_same_file_whatever_was_committed_beside_it(file):
    later = replace(HEAD, commit="fedcba9876543210", date="2031-01-01T00:00:00+00:00")
    assert open_results(file.parent, later).outcomes == {PLAN: OUTCOME}


def test_other_code_has_a_file_of_its_own(file):
    other = open_results(file.parent, replace(HEAD, key="bbbb2222", code="other"))
    assert (other.all_outcomes, other.file == file) == ({}, False)
    assert read_results(file).outcomes == {PLAN: OUTCOME}


def test_another_machine_goes_on_in_a_file_of_its_own(file):
    """What was trained there is done; what it is compared with is not: bits may be others here."""
    other = open_results(file.parent, replace(HEAD, key="bbbb2222", machine="another"))
    assert (other.outcomes, other.undisturbed, other.file == file) == ({}, {}, False)
    assert (other.all_outcomes, other.num_kills) == ({PLAN: OUTCOME}, 1)
    assert [each.file for each in other.others] == [file]
    assert [each.file for each in open_results(file.parent, HEAD).others] == [other.file]


def test_the_key_is_that_of_code_and_machine():
    head = this_head()
    assert (head.code, head.key) == (this_head().code, this_head().key)
    assert head.key != head.code


# which line is damaged, and how: what is read of it instead
@pytest.mark.parametrize(
    ("number", "damage"),
    [
        (1, lambda _line: '{"outcome": {}}'),
        (1, lambda _line: ""),
        (2, lambda line: line[:-20]),
        (2, lambda line: line.replace("3.25", '"3.25"')),
        (3, lambda line: line.replace('"problems"', '"no_problems"')),
        (3, lambda _line: "[]"),
        (3, lambda line: json.dumps({"other": json.loads(line)["outcome"]})),
    ],
)
def test_a_damaged_line_is_refused(file, number, damage):
    lines = file.read_text().splitlines()
    lines[number - 1] = damage(lines[number - 1])
    file.write_text("\n".join(lines) + "\n")
    with pytest.raises(TrainerError, match=f"line {number} is damaged"):
        open_results(file.parent, HEAD)


@pytest.mark.parametrize("size", [0, 1])
def test_a_line_that_was_cut_off_is_refused(file, size):
    text = file.read_text()
    file.write_text(text[: len(text) // 2] if size else "")
    with pytest.raises(TrainerError, match="is damaged or cut off: remove it"):
        open_results(file.parent, HEAD)
