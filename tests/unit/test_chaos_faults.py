"""Which faults happen, and when."""

from collections import Counter

import pytest

from trainer.chaos.faults import Amount, Pace, plan

PACE = Pace(pause=0.5, recovery=4.0, in_a_row=2)


@pytest.mark.parametrize("num_workers", [1, 2, 3])
def test_as_many_as_asked_for_to_every_kind_of_process(num_workers):
    faults = plan(Amount(kills=30, stops=6, freezes=9), num_workers, PACE, seed=1)
    assert Counter(fault.action for fault in faults) == {"kill": 30, "stop": 6, "freeze": 9}
    indices = {(fault.target, fault.index) for fault in faults if fault.action == "kill"}
    others = range(1, num_workers)
    assert indices == {
        ("leader", 0), *(("worker", i) for i in range(num_workers)), *(("agent", i) for i in others)
    }  # fmt: skip
    assert {fault.target for fault in faults if fault.action == "stop"} <= {"agent", "leader"}


def test_three_kills_already_hit_worker_agent_and_leader():
    for seed in range(20):
        faults = plan(Amount(kills=3), 2, PACE, seed=seed)
        assert {fault.target for fault in faults} == {"worker", "agent", "leader"}


def test_the_seed_alone_decides():
    first, same, other = (plan(Amount(20, 4, 4), 3, PACE, seed=seed) for seed in (7, 7, 8))
    assert first == same != other


def test_shares_of_the_run_ascend_and_end_before_it():
    shares = [f.at for f in plan(Amount(200), 2, PACE, seed=3) if f.at is not None]
    assert shares == sorted(shares)
    assert shares[0] > 0
    assert shares[-1] < 0.86


# in_a_row, how many faults may come without a step between them
@pytest.mark.parametrize(("in_a_row", "longest"), [(1, 1), (2, 2), (3, 3)])
def test_faults_in_a_row_are_bounded(in_a_row, longest):
    pace = Pace(pause=0.5, recovery=4.0, in_a_row=in_a_row)
    rows, row = [], 0
    for fault in plan(Amount(500), 2, pace, seed=5):
        row = 1 if fault.at is not None else row + 1
        rows.append(row)
    assert max(rows) == longest
