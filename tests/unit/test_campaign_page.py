"""What a campaign says of itself: phases of kills, tables, the page that is kept."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.campaign.page import page, rewritten
from tests.campaign.phases import phase_at
from tests.campaign.results import Kill, Results, open_results
from tests.unit.test_campaign_results import HEAD, OUTCOME, PLAN
from trainer.chaos.agents import Event
from trainer.errors import TrainerError

# (worker, time, event) of two workers; the second one begins anew at 20.
EVENTS = [
    (0, 1, "worker starts"), (1, 1.5, "worker starts"), (0, 2, "config"), (0, 3, "model"),
    (1, 4, "config"), (1, 4.5, "model"), (0, 5, "restore"), (1, 5, "restore"),
    (0, 6, "first step"), (1, 6.1, "first step"), (0, 7, "saving"), (0, 8, "checkpoint"),
    (0, 9, "validation"), (0, 10, "epoch"), (1, 10, "epoch"), (0, 11, "checkpoint"),
    (1, 20, "worker restarts"), (0, 21, "final save"),
]  # fmt: skip


# worker, time, its phase
@pytest.mark.parametrize(
    ("index", "time", "phase"),
    [
        (0, 0.5, "gathering"), (0, 1.2, "importing"), (0, 2.5, "building"), (1, 2.5, "importing"),
        (0, 3.5, "restoring"), (0, 5.5, "compiling"), (0, 6.5, "training"), (1, 6.05, "compiling"),
        (0, 7.5, "saving"), (1, 7.5, "saving"), (0, 8.5, "training"), (1, 9.5, "validation"),
        (0, 10.5, "saving"), (1, 12, "training"), (1, 20.5, "gathering"), (0, 22, "ending"),
    ],
)  # fmt: skip
def test_the_phase_of_a_kill(index, time, phase):
    events = [Event(worker, at, name) for worker, at, name in EVENTS]
    assert phase_at(events, index, time) == phase


def kill(victim, first_step, phase="training", workers=1):
    return Kill(victim, workers, phase, 0.1, 1.0, 2.0, first_step)


def results(*outcomes):
    return Results(Path("x.jsonl"), HEAD, outcomes={outcome.plan: outcome for outcome in outcomes})


def test_kills_are_counted_by_victim_and_phase_and_recoveries_by_world():
    kills = (kill("worker", 4.0), kill("worker", 6.0, "saving"), kill("leader", 5.0, workers=3))
    text = page(results(replace(OUTCOME, kills=kills)), ".")
    assert "**3 kills in 1 trainings: every result was equal.**" in text
    assert "| training | steps are made, and nothing else | 1 | 0 | 1 | 2 |" in text
    assert "| all |  | 2 | 0 | 1 | 3 |" in text
    assert "| 1 | worker | 2 | 2 | 0.10 / 0.10 / 0.10 |" in text
    assert "| 4.00 / 6.00 / 6.00 |" in text
    assert "| 2, then 1 | `gs://` | 1 | 1 | 3 | 4 | 400 | 0 | 12 |" in text
    assert "| `step` | 4 | 100.0% |" in text


def test_a_training_that_was_not_equal_is_named():
    other = replace(OUTCOME, plan=replace(PLAN, number=8), problems=("sha256 differs\nmore",))
    text = page(results(OUTCOME, other), ".")
    assert "**2 kills in 2 trainings: 1 FAILED.**\n\n- 8-gs-2-1: sha256 differs\n" in text
    assert "| all |  | 2 | 1 | 2 | 8 |" in text


def test_a_page_is_written_anew_from_the_results_that_it_names(tmp_path):
    first = open_results(tmp_path, HEAD)
    first.add(OUTCOME)
    kept = open_results(tmp_path, replace(HEAD, key="bbbb2222", machine="another"))
    kept.add(replace(OUTCOME, plan=replace(PLAN, number=8)))
    text = page(kept, str(tmp_path))
    assert "**2 kills in 2 trainings: every result was equal.**" in text
    for each, machine in ((first, "Linux"), (kept, "another")):
        assert f"| numbers of {machine} | [1 kills]({each.file}) |" in text
    assert rewritten(text.replace("2 kills in", "3 kills in")) == text
    with pytest.raises(TrainerError, match="does not say from what it was written"):
        rewritten("# The campaign")
