import numpy as np
import pytest

from trainer.agreement import Alone, Group
from trainer.stop import StopRequest


def group(**clocks):
    """Two workers of two replicas each; the first is the chief."""
    return [
        Group(
            StopRequest(**clocks),
            is_chief=chief,
            replicas=2,
            total=lambda values: values,
            lost=OSError,
        )
        for chief in (True, False)
    ]


def vote(workers, wanted=(8, 5)):
    """What each takes the next size to be, after all ballots were added up."""
    ballots = [2 * worker.ballot(size) for worker, size in zip(workers, wanted, strict=True)]
    return [worker.count(np.sum(ballots, axis=0)) for worker in workers]


def test_the_chief_decides_how_long_a_call_is():
    assert vote(group()) == [8, 8]


def test_a_stop_of_one_holds_for_all_from_the_same_call_on():
    times = iter(range(100))
    workers = group(clock=lambda: float(next(times)))
    workers[1].stop._is_deferred = True
    workers[1].stop._handle(15, None)
    assert [worker.stops for worker in workers] == [False, False]
    vote(workers)
    assert [worker.stops for worker in workers] == [True, True]
    assert all(worker.stop.seconds_since() > 0 for worker in workers)
    # Only the one that got the signal would leave at once with the next.
    assert [worker.stop.is_set for worker in workers] == [False, True]


def test_the_grace_runs_from_when_a_worker_first_knew():
    now = [10.0]
    workers = group(clock=lambda: now[0])
    workers[1].stop._is_deferred = True
    workers[1].stop._handle(15, None)
    for now[0] in (13.0, 15.0):
        vote(workers)
    assert [worker.stop.seconds_since() for worker in workers] == [2.0, 5.0]


def test_the_chief_s_clock_decides_on_saves():
    workers = group()
    workers[1].by_clock = lambda: True
    vote(workers)
    assert not any(worker.is_save_due for worker in workers)
    workers[0].by_clock = lambda: True
    vote(workers)
    assert all(worker.is_save_due for worker in workers)
    workers[0].by_clock = lambda: False
    vote(workers)
    assert not any(worker.is_save_due for worker in workers)


def test_an_objection_of_one_is_heard_by_all_with_the_next_call():
    workers = group()
    vote(workers)
    workers[0].object_to("it stopped training")
    workers[0].object_to("and something else")
    assert not any(worker.is_objected for worker in workers)
    vote(workers)
    assert all(worker.is_objected for worker in workers)
    vote(workers)
    assert all(worker.is_objected for worker in workers)
    assert workers[0].objection() == "it stopped training"


def test_a_long_objection_is_cut_between_letters():
    chief = group()[0]
    chief.object_to("é" * 60 + "x")
    chief.hear()
    assert (chief.is_objected, chief.objection()) == (True, "é" * 50)


def test_a_worker_alone_decides_at_once():
    stop = StopRequest()
    alone = Alone(stop)
    assert alone.ballot(7) is None
    assert (alone.stops, alone.is_save_due) == (False, False)
    stop._is_deferred = True
    stop._handle(15, None)
    alone.by_clock = lambda: True
    assert (alone.stops, alone.is_save_due) == (True, True)
    assert not alone.is_objected
    alone.object_to("no")
    assert (alone.is_objected, alone.objection()) == (True, "no")


def test_who_parts_has_met_all_once_and_may_miss_the_second_time():
    met = []

    def total(values):
        met.append(values)
        if len(met) in fails_at:
            raise OSError("the other has gone")
        return values

    group = Group(StopRequest(), is_chief=False, replicas=1, total=total, lost=OSError)
    fails_at = {2}
    group.part()
    assert len(met) == 2
    fails_at = {3}
    with pytest.raises(OSError, match="has gone"):
        group.part()
