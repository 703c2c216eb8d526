"""What logs say of a disturbed run."""

import re
from dataclasses import replace

import pytest

from trainer.chaos.agents import Event
from trainer.chaos.campaign import Trained
from trainer.chaos.faults import Fault
from trainer.chaos.injector import Fired
from trainer.chaos.result import Ending, Result, calm_of, recovery_by_kind
from trainer.chaos.story import Story, summarize

# Two workers to step 40; worker 1 is killed at 60.0 s, and they go on from step 30 to 100.
LINES = [
    (0, 10.0, "worker starts", {"pid": 100}),
    (1, 11.0, "worker starts", {"pid": 200}),
    (0, 19.0, "restore", {"step": 0}),
    (0, 19.5, "train", {"target_step": 100}),
    (0, 20.0, "first step", {"step": 1}),
    (1, 20.1, "first step", {"step": 1}),
    (0, 60.0, "progress", {"step": 40}),
    (1, 60.2, "worker restarts", {"step": 40}),
    (0, 60.5, "worker restarts", {"step": 40}),
    (0, 61.0, "worker starts", {"pid": 101}),
    (1, 61.5, "worker starts", {"pid": 201}),
    (1, 65.0, "restore", {"step": 30}),
    (0, 64.0, "restore", {"step": 30}),
    (0, 66.0, "first step", {"step": 31}),
    (0, 136.0, "progress", {"step": 100}),
]


@pytest.fixture
def story():
    story = Story()
    for index, time, name, fields in LINES:
        story.add(Event(index, time, name, fields))
    return story


def test_steps_that_were_made_twice_are_not_productive(story):
    assert (story.step, story.target, story.pids) == (100, 100, {0: 101, 1: 201})
    assert story.redone == [10]
    # 30 of 40 steps were kept of the first 40 s, and all of the 70 s after that.
    assert story.productive_seconds == pytest.approx(30.0 + 70.0)


def test_the_share_is_of_the_steps_from_where_a_training_went_on():
    story, shares = Story(), []
    for name, fields in [
        ("restore", {"step": 60}), ("train", {"target_step": 100}), ("first step", {"step": 61}),
        ("progress", {"step": 80}), ("restore", {"step": 70}), ("progress", {"step": 90}),
    ]:  # fmt: skip
        story.add(Event(0, 1.0, name, fields))
        shares.append(story.share)
    assert shares == pytest.approx([0, 0, 1 / 40, 0.5, 0.5, 0.75])


def test_a_recovery_is_over_when_the_last_one_is(story):
    [found] = story.recoveries([60.1])
    moments = (found.detected, found.gathered, found.restored, found.first_step)
    assert moments == pytest.approx((0.4, 1.4, 4.9, 5.9))


def test_a_fault_before_the_first_step_leaves_nothing_to_measure(story):
    first, second = story.recoveries([60.1, 60.7])
    assert first.detected is None
    assert second.first_step == pytest.approx(5.3)


def test_a_fault_that_breaks_nothing_has_no_recovery(story):
    assert [one.first_step for one in story.recoveries([63.0, 70.0])] == [None, None]


def test_percentiles_are_values_that_there_were():
    assert dict(summarize([*range(1, 101), None])) == {"p50": 50, "p95": 95, "worst": 100}
    assert dict(summarize([3.0])) == {"p50": 3.0, "p95": 3.0, "worst": 3.0}
    assert dict(summarize([None])) == {}


def fired(**changes):
    fault = Fault("kill", "worker", 1, at=0.4)
    return Fired(fault, pid=200, parent=2, time=60.1, step=40, **{"is_seen": True} | changes)


def result_of(story, *, ending, happened, planned=1):
    calm = Ending(100, "aa", {"loss": [1.0]})
    disturbed = Trained(story, 140.0, 0, happened)
    undisturbed = calm_of(Trained(story, 130.0, 0), calm)
    return Result(planned, disturbed, ending or calm, undisturbed)


def test_an_equal_result_has_no_problem(story):
    found = result_of(story, ending=None, happened=[fired()]).to_json()
    assert (found["equal"], found["problems"], found["redone_steps"]) == (True, [], 10)
    assert found["recovery"]["kill worker"]["first_step"]["worst"] == 5.9


# what the disturbed run came to, its faults, how many were planned, what is said
@pytest.mark.parametrize(
    ("ending", "happened", "planned", "said"),
    [
        (Ending(100, "bb", {"loss": [1.0]}), [fired()], 1, "sha256 differs: bb, undisturbed aa"),
        (Ending(100, "aa", {"loss": [2.0]}), [fired()], 1, "history differs"),
        (Ending(90, "aa", {"loss": [1.0]}), [fired()], 1, "steps differs: 90, undisturbed 100"),
        (None, [fired()], 3, "only 1 of 3 faults happened"),
        (None, [fired(is_seen=False)], 1, r"fault 1, SIGKILL to worker 1 \(process 200\), had no"),
    ],
)
def test_what_differs_or_did_not_happen_is_a_problem(story, ending, happened, planned, said):
    result = result_of(story, ending=ending, happened=happened, planned=planned)
    [problem] = result.problems
    assert re.search(said, problem)


# seconds by cause and unseen ones, of 140 s that passed
@pytest.mark.parametrize(
    ("goodput", "unseen", "problems"),
    [
        ({"step": 100.0, "down": 39.0}, 0.0, []),
        ({"step": 130.0}, 10.0, []),
        ({"step": 130.0}, 0.0, ["the goodput ledger has causes for 130.0 s of 140.0 s"]),
        ({"step": 150.0}, 5.0, ["the goodput ledger has causes for 150.0 s of 135.0 s"]),
    ],
)
def test_all_seconds_but_those_of_the_start_have_a_cause(story, goodput, unseen, problems):
    result = result_of(story, ending=None, happened=[fired()])
    assert replace(result, goodput=goodput, unseen=unseen).problems == problems


def test_kinds_are_counted_apart(story):
    two = [fired(), Fired(Fault("stop", "agent", 1, at=0.7), 2, 1, 100.0, 70, is_seen=True)]
    found = recovery_by_kind(two, story.recoveries([60.1, 100.0]))
    assert {kind: (row["count"], row["recovered"]) for kind, row in found.items()} == {
        "kill worker": (1, 1), "stop agent": (1, 0)
    }  # fmt: skip
