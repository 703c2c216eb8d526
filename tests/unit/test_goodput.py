"""The arithmetic of causes: every second has one, and none is negative."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.goodput import CAUSES, PHASES, CauseClock, Generation, Spent, chain


class Time:
    """A clock that the test sets."""

    def __init__(self, now=100.0):
        self.now = now

    def __call__(self):
        return self.now


def test_no_more_causes_than_a_label_may_have_values():
    assert len(CAUSES) == 10
    assert set(PHASES) == set(CAUSES) - {"data_wait", "redone"}


def test_a_block_has_its_cause_and_the_one_before_goes_on():
    time = Time()
    clock = CauseClock(clock=time)
    time.now = 101
    with clock.cause("restore"):
        time.now = 104
        with clock.cause("checkpoint"):
            time.now = 104.5
    time.now = 106.5
    assert clock.totals() == {"startup": 3, "restore": 3, "checkpoint": 0.5}


@pytest.mark.parametrize(
    ("waited", "redone", "expected"),
    [  # of 4 seconds
        (0, 0, {"step": 4}),
        (1, 0, {"data_wait": 1, "step": 3}),
        (1, 1, {"data_wait": 1, "redone": 3}),
        (2, 0.5, {"data_wait": 2, "redone": 1, "step": 1}),
        (9, 0, {"data_wait": 4}),
        (-0.1, 0, {"step": 4}),
    ],
)
def test_a_call_of_steps_is_shared_when_it_has_ended(waited, redone, expected):
    time = Time()
    clock = CauseClock("step", clock=time)
    time.now += 4
    assert clock.totals() == {}
    assert clock.pending() == ("step", 4)
    clock.call(waited=waited, redone=redone)
    assert clock.totals() == expected


def test_what_a_worker_tells_is_counted_once():
    time = Time()
    agent = CauseClock(clock=time)
    time.now = 102
    worker = CauseClock(clock=time)
    time.now = 103
    agent.totals()  # the agent has taken this second for its own start
    worker.switch("compile")
    time.now = 108
    agent.take(worker.drain())
    assert agent.totals() == {"startup": 3, "compile": 5}
    assert worker.drain().seconds == {}


def test_what_was_broken_off_is_lost():
    time = Time()
    clock = CauseClock("step", clock=time)
    time.now += 3
    clock.turn_out("down")
    assert clock.totals() == {"down": 3}


MOMENTS = st.lists(
    st.tuples(
        st.floats(-5, 50),
        st.sampled_from(["switch", "call", "totals", "take"]),
        st.sampled_from(list(CAUSES)),
        st.floats(0, 60),
    ),
    max_size=30,
)


@given(MOMENTS)
def test_causes_sum_to_the_time_that_passed(moments):
    """Also where the clock goes back, and another process tells of more than there was."""
    time = Time()
    clock = CauseClock(clock=time)
    latest = time.now
    for seconds, action, cause, more in moments:
        time.now += seconds
        latest = max(latest, time.now)
        if action == "switch":
            clock.switch(cause)
        elif action == "call":
            clock.call(waited=more, redone=0.5)
        elif action == "take":
            clock.take(Spent({cause: more}, "step", time.now))
        clock.totals()
    time.now = latest + 1
    clock.switch("down")
    totals = clock.totals()
    assert min(totals.values()) >= 0
    assert sum(totals.values()) == pytest.approx(time.now - 100)


def life(number, start, end, reason="killed", **seconds):
    return Generation(number, start, end, seconds or {"step": end - start}, reason=reason)


@pytest.mark.parametrize(
    ("lives", "down", "wall"),
    [
        ([], 0, 0),
        ([life(1, 100, 110)], 0, 10),
        ([life(1, 100, 110), life(2, 115, 120)], 5, 20),
        ([life(1, 100, 110, "stopped"), life(2, 3700, 3710)], 3590, 3610),
        ([life(1, 100, 110, "complete"), life(2, 3700, 3710)], 0, 20),
        # The clock of the second one's machine is behind.
        ([life(1, 100, 110), life(2, 90, 95)], 0, 15),
        ([life(2, 115, 120), life(1, 100, 110)], 5, 20),
    ],
)
def test_what_lies_between_two_lives_is_down(lives, down, wall):
    ledger = chain(lives)
    assert ledger.seconds["down"] == down
    assert ledger.wall_seconds == wall
    assert sum(ledger.seconds.values()) == pytest.approx(wall)
    assert set(ledger.seconds) == set(CAUSES)


def test_who_ended_without_a_word_was_lost():
    first, last = chain([life(1, 100, 110, ""), life(2, 112, 120, "")]).generations
    assert (first.reason, first.end) == ("lost", 112)
    assert last.reason == ""
