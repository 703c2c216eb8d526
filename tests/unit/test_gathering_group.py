"""The leader's rules, on a clock of our own and without a network."""

import pytest

from tests.small_group import NotedPeer, offer
from trainer.errors import CheckpointError
from trainer.gathering.group import Group
from trainer.gathering.messages import (
    AskStop,
    Broken,
    Ended,
    Failed,
    Leave,
    Plan,
    Progress,
    Refused,
    Stop,
    Stopped,
    WorkerEnded,
)
from trainer.gathering.rules import Rules
from trainer.gathering.timings import Timings


class Table:
    """A group whose choices are made at once, unless `is_slow`; peers by index."""

    def __init__(self, num_workers=3, *, is_slow=False, **rules):
        self.now, self.begun, self.peers = 0.0, [], {}
        self.is_slow, self.num_workers = is_slow, num_workers
        self.group = Group(
            offer(0, num_workers), leader="a-leader", rules=Rules(**rules),
            timings=Timings(wait=100, stop=10), begin=self._begin, clock=lambda: self.now,
        )  # fmt: skip

    def _begin(self, number, indices):
        self.begun.append((number, indices))
        if not self.is_slow:
            self.group.chosen(number, {"step": number})

    def join(self, *indices, **changes):
        for index in indices:
            peer = self.peers.setdefault(index, NotedPeer())
            self.group.join(peer, offer(index, self.num_workers, **changes))

    def hear(self, index, message):
        self.group.hear(self.peers[index], message)

    def lose(self, index):
        self.group.lost(self.peers.pop(index), "closed the connection")

    def told(self, kind):
        """The indices whose last message is of this kind."""
        return {index for index, peer in self.peers.items() if isinstance(peer.last, kind)}


def test_the_last_join_begins_a_generation_for_all():
    table = Table()
    table.join(0, 2)
    assert not table.told(Plan)
    table.join(1)
    plans = [table.peers[index].last for index in range(3)]
    assert plans[0] == plans[1] == plans[2]
    assert (plans[0].generation, plans[0].indices, plans[0].chosen) == (1, (0, 1, 2), {"step": 1})
    assert plans[0].addresses == ("10.0.0.0:2222", "10.0.0.1:2222", "10.0.0.2:2222")


@pytest.mark.parametrize("event", ["lost", "failed", "left", "joined again", "replaced"])
def test_one_member_breaks_the_generation_for_all(event):
    table = Table()
    table.join(0, 1, 2)
    match event:
        case "lost":
            table.lose(1)
        case "failed":
            table.hear(1, Failed(generation=1, reason="exit code 137"))
        case "left":
            table.hear(1, Leave())
        case "joined again":
            table.join(1)
        case "replaced":
            table.peers["old"] = table.peers.pop(1)
            table.join(1, pod="newer", started=101.0)
            assert isinstance(table.peers["old"].last, Refused)
    assert {0, 2} <= table.told(Broken)
    assert table.peers[0].last.index == 1
    assert table.group.snapshot().phase == "gathering"


def test_those_who_come_again_get_the_next_generation():
    table = Table()
    table.join(0, 1, 2)
    table.lose(1)
    table.join(2, 1, 0)
    assert {peer.last.generation for peer in table.peers.values()} == {2}


@pytest.mark.parametrize("message", [Failed(generation=1, reason=""), Stopped(generation=1)])
def test_news_of_an_older_generation_is_stale(message):
    table = Table()
    table.join(0, 1, 2)
    table.lose(1)
    table.join(0, 1, 2)
    table.hear(2, message)
    assert table.told(Plan) == {0, 1, 2}
    assert table.group.snapshot().running == (0, 1, 2)


@pytest.mark.parametrize("code", [0, 2, 3, 4, 5, 6, 7])
def test_the_end_is_told_to_all_and_to_those_who_come_later(code):
    table = Table()
    table.join(0, 1, 2)
    table.lose(0)
    table.hear(2, WorkerEnded(code=code, message="why"))
    table.hear(1, WorkerEnded(code=3, message="too late"))
    table.join(0)
    ended = Ended(index=2, code=code, message="why")
    assert [table.peers[index].last for index in range(3)] == [ended] * 3
    assert table.group.deadline is None


def test_a_stop_is_told_to_all_and_breaks_nothing():
    table = Table()
    table.join(0, 1, 2)
    table.hear(1, AskStop())
    assert [peer.last for peer in table.peers.values()] == [Stop(index=1)] * 3
    for index in range(3):
        table.hear(index, Stopped(generation=1))
    table.hear(1, Leave())
    table.join(0, 2)
    assert not [peer for peer in table.peers.values() if peer.of(Broken)]
    table.join(1, pod="its successor", started=200.0)
    assert table.told(Plan) == {0, 1, 2}


def test_who_stopped_may_wait_or_go_while_others_still_save():
    table = Table()
    table.join(0, 1, 2)
    table.hear(1, Stopped(generation=1))
    table.hear(2, Stopped(generation=1))
    table.join(1)
    table.lose(2)
    assert table.group.snapshot().phase == "stopping"
    assert table.told(Broken) == set()
    table.hear(0, Stopped(generation=1))
    table.join(0, 2)
    assert table.told(Plan) == {0, 1, 2}


def test_a_failure_after_anothers_stop_breaks_only_who_still_runs():
    table = Table()
    table.join(0, 1, 2)
    table.hear(1, Stopped(generation=1))
    table.hear(2, Failed(generation=1, reason="killed"))
    assert table.told(Broken) == {0, 2}


def test_a_worker_that_does_not_stop_is_not_waited_for():
    table = Table()
    table.join(0, 1, 2)
    table.hear(0, Stopped(generation=1))
    table.hear(2, Stopped(generation=1))
    assert table.group.deadline == 10
    table.group.expire()
    assert table.peers[1].last.reason == "worker 1: it did not stop within 10 s of the others"


def test_the_deadline_names_the_missing():
    table = Table(4, host_of=lambda index: f"demo-{index}")
    table.now = 5
    table.join(0)
    table.now = 50
    table.join(2)
    assert table.group.deadline == 105
    table.group.expire()
    assert table.told(Refused) == {0, 2}
    assert table.peers[2].last.code == 76
    assert table.peers[2].last.message == (
        "workers 1, 3 did not join generation 1 within 100 s (have 0, 2): check pod demo-1, demo-3,"
        " and that the leader demo-0 can be reached from there"
    )


def test_the_wait_begins_anew_when_a_generation_breaks():
    table = Table()
    table.join(0, 1, 2)
    assert table.group.deadline is None
    table.now = 1000
    table.lose(1)
    assert table.group.deadline == 1100


# min_workers, allowed sizes, who waits -> who begins
SMALLER = [
    (2, {2, 4}, (0, 1, 2), (0, 1)),
    (2, {1, 2, 3, 4}, (0, 2, 3), (0, 2, 3)),
    (2, {2, 4}, (1, 2, 3), None),
    (3, {1, 2, 4}, (0, 1, 2), None),
    (3, {2, 3}, (0, 1), None),
    (None, {1, 2, 3, 4}, (0, 1, 2), None),
]


@pytest.mark.parametrize(("least", "allowed", "there", "begins"), SMALLER)
def test_the_largest_allowed_number_begins(least, allowed, there, begins):
    table = Table(4, min_workers=least, allowed=allowed.__contains__)
    table.join(*there)
    table.group.expire()
    assert table.told(Plan) == set(begins or ())
    assert table.told(Refused) == set(() if begins else there)


def test_who_is_outside_is_taken_in_after_an_agreed_stop():
    table = Table(4, min_workers=2, allowed={2, 4}.__contains__)
    table.join(0, 1, 2)
    table.group.expire()
    assert table.group.outside == (2,)
    table.join(3)
    assert table.group.snapshot().outside == (2, 3)
    for index in (0, 1):
        table.hear(index, Stopped(generation=1))
        table.join(index)
    assert table.told(Plan) == {0, 1, 2, 3}
    assert table.group.outside == ()


def test_who_goes_during_the_choice_is_waited_for_again():
    table = Table(is_slow=True)
    table.join(0, 1, 2)
    table.lose(1)
    table.group.chosen(1, {})
    assert not table.told(Plan)
    table.join(1)
    assert table.begun == [(1, (0, 1, 2)), (2, (0, 1, 2))]
    table.group.chosen(2, {"step": 7})
    assert table.told(Plan) == {0, 1, 2}


def test_an_error_of_the_choice_ends_all():
    table = Table(is_slow=True)
    table.join(0, 1, 2)
    table.group.fail(1, CheckpointError("all are damaged"))
    assert [peer.last for peer in table.peers.values()] == [
        Refused(code=5, message="all are damaged")
    ] * 3


# what differs -> what the refusal says
DIFFERENCES = [
    ({"run": "b"}, 'in run: "b" instead of "a-run"'),
    ({"job": "b"}, 'in job: "b" instead of "a-job"'),
    ({"code_version": "2"}, 'in code_version: "2" instead of "1.0"'),
    ({"num_workers": 4}, "in num_workers: 4 instead of 3"),
    ({"config": {"train.epochs": 3, "data.batch_size": 64, "train.learning_rate": 0.1}},
     "in configuration key data.batch_size: 64 instead of 32"),
    ({"config": {"train.epochs": True, "data.batch_size": 32, "train.learning_rate": 0.1}},
     "in configuration key train.epochs: true instead of 3"),
    ({"config": {"train.epochs": 3, "data.batch_size": 32}},
     "in configuration key train.learning_rate: nothing instead of 0.1"),
    ({"config": {"train.epochs": 4, "data.batch_size": 64, "train.learning_rate": 0.1, "x": 1}},
     "in configuration key train.epochs: 4 instead of 3 (and in 2 more)"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "text"), DIFFERENCES)
def test_a_difference_is_refused_by_its_key(changes, text):
    table = Table()
    table.join(0)
    peer = table.peers[1] = NotedPeer()
    table.group.join(peer, offer(1, **changes))
    assert peer.last.code == 2
    assert f"worker 1 differs from worker 0 {text}" in peer.last.message
    assert table.group.snapshot().present == (0,)


def test_a_long_value_is_shown_in_part():
    table = Table()
    peer = NotedPeer()
    table.group.join(peer, offer(1, config={"k" * 5000: "v" * 5000}))
    assert len(peer.last.message) < 1000


def test_an_index_beyond_the_group_is_refused():
    table = Table()
    table.join(3)
    assert "worker 3 is none of this group's 3 (0-2)" in table.peers[3].last.message


def test_an_older_incarnation_is_refused_whenever_it_comes():
    table = Table()
    table.join(1, started=200.0, pod="new")
    zombie = NotedPeer()
    table.group.join(zombie, offer(1, started=199.0, pod="old"))
    table.lose(1)
    table.group.join(zombie, offer(1, started=199.0, pod="old"))
    assert [message.code for message in zombie.told] == [76, 76]
    assert "replaced by its newer incarnation new" in zombie.last.message
    assert table.group.snapshot().present == ()


def test_the_snapshot_has_the_workers_steps():
    table = Table()
    table.join(0, 1, 2)
    table.hear(0, Progress(step=40))
    table.hear(2, Progress(step=38))
    found = table.group.snapshot()
    assert (found.phase, found.min_step, found.max_step) == ("running", 38, 40)
    table.lose(1)
    assert table.group.snapshot().max_step is None


def test_after_a_smaller_generation_nobody_waits_for_more_than_it_had():
    table = Table(3, min_workers=1)
    table.join(0, 1)
    table.now = 100
    table.group.expire()
    assert table.begun == [(1, (0, 1))]
    table.hear(1, Failed(generation=1, reason="exit code 139"))
    table.join(0)
    assert len(table.begun) == 1
    table.join(1)
    assert table.begun[1:] == [(2, (0, 1))]
    # Fewer than before wait for the one that is gone.
    table.lose(1)
    table.join(0)
    assert len(table.begun) == 2
    assert table.group.deadline == 200


def test_who_waits_outside_can_be_taken_in_when_more_may_train():
    table = Table(4, min_workers=1, allowed={1, 2, 4}.__contains__)
    table.join(0, 1)
    table.now = 100
    table.group.expire()
    assert not table.group.can_grow
    table.join(2)
    assert not table.group.can_grow
    table.join(3)
    assert table.group.can_grow
    for index in (0, 1):
        table.hear(index, Stopped(generation=1))
        table.join(index)
    assert table.begun[1:] == [(2, (0, 1, 2, 3))]


def test_who_leaves_while_nobody_runs_is_not_waited_for():
    table = Table(3, min_workers=2)
    table.join(0, 1)
    table.now = 100
    table.group.expire()
    table.join(2)
    table.hear(0, Stopped(generation=1))
    table.join(0)
    table.hear(1, Stopped(generation=1))
    table.hear(1, Leave())
    assert table.begun[1:] == [(2, (0, 2))]
