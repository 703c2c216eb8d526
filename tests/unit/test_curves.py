"""What is kept of a run's curves: bounded, and steps that were made again are there once."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.run.curves import Points, Recorder, Thinned, each_step, joined, points_of


def recorded(number, start, end, *, call=10, loss=lambda step: 1.0 / step, seconds=0.1):
    recorder = Recorder(number)
    recorder.begin(start, 1000, 100)
    for step in range(start, end, call):
        steps = np.arange(step + 1, min(step + call, end) + 1)
        ended = [number * 1e6 + seconds * int(at) for at in steps]
        recorder.call({"loss": loss(steps)}, ended, [seconds / 4] * len(steps))
    return recorder.frozen().life()


@given(st.integers(1, 300_000), st.integers(1, 997))
def test_points_are_bounded_and_even(num_steps, spacing):
    kept = Thinned(most=50)
    steps = range(spacing, num_steps + 1, spacing)
    for step in steps[:5000]:
        kept.add(step, 0.0, {})
    found = [step for step, _, _ in kept.rows]
    assert len(found) < 50
    assert found == sorted(set(found))
    assert len(found) >= min(len(steps[:5000]), 20)
    if len(steps) >= 50:
        gaps = np.diff(found)
        assert gaps.max() <= 2 * gaps.min() + spacing


def test_every_step_is_there_while_there_are_few():
    life = recorded(1, 0, 95)
    assert life.train.steps == list(range(1, 96))
    assert life.train.values["loss"][:3] == [1.0, 0.5, 0.333333]


def test_what_is_kept_of_many_steps_is_theirs():
    life = recorded(1, 0, 100_000, call=100)
    assert 1000 <= len(life.train.steps) < 2000
    pairs = zip(life.train.steps, life.train.values["loss"], strict=True)
    assert all(loss == pytest.approx(1 / step, rel=1e-5) for step, loss in pairs)
    assert life.train.steps[-1] > 99_000


def test_speed_waiting_and_durations():
    life = recorded(3, 0, 1000)
    assert sum(life.durations.values()) == 999  # nobody knows when the first one began
    assert {key // 10 for key in life.durations} <= {-2, -1}
    speed = joined([life]).speed
    assert speed.values["steps_per_second"] == pytest.approx([10.0] * len(speed.steps))
    assert speed.values["data_wait"] == pytest.approx([0.25] * len(speed.steps))


def test_time_between_epochs_is_no_steps():
    recorder = Recorder(1)
    recorder.begin(0, 4, 2)
    recorder.call({}, [10.0, 11.0], [0.0, 0.0])
    recorder.pause()
    recorder.call({}, [100.0, 101.0], [0.0, 0.0])
    assert recorder.frozen().life().durations == {0: 2}


def test_steps_that_were_made_again_are_there_once_as_they_were_made_last():
    lives = [
        recorded(1, 0, 50, loss=lambda steps: steps * 1.0),
        recorded(2, 40, 80, loss=lambda steps: steps * 2.0),
        recorded(3, 60, 70, loss=lambda steps: steps * 3.0),
    ]
    train = joined(list(reversed(lives))).train
    assert train.steps == list(range(1, 71))
    factors = [value / step for step, value in zip(train.steps, train.values["loss"], strict=True)]
    assert factors == pytest.approx([1] * 40 + [2] * 20 + [3] * 10)


def test_metrics_that_come_later_begin_with_gaps():
    rows = [(1, 0.0, {"loss": 1.0}), (2, 0.0, {"loss": float("nan"), "accuracy": 0.5})]
    assert points_of(rows).values == {"loss": [1.0, None], "accuracy": [None, 0.5]}


def test_a_script_trains_several_times_in_a_life():
    recorder = Recorder(1)
    for first in (0, 20):
        recorder.begin(first, first + 20, 20 - first // 2, first_step=first)
        recorder.call({"loss": np.ones(20)}, [first + 0.1 * i for i in range(20)], [0.0] * 20)
        recorder.epoch({"loss": 1.0}, first + 3.0)
    life = recorder.frozen().life()
    assert (life.start, life.target, life.steps_per_epoch) == (0, 40, {0: 20, 20: 10})
    assert life.train.steps == list(range(1, 41))
    assert life.epochs.steps == [20, 40]


def test_columns_have_one_length():
    with pytest.raises(ValueError, match="different lengths"):
        Points([1, 2], [0.0, 0.0], {"loss": [1.0]})


def test_no_life_is_no_curve():
    assert joined([]).train.steps == []
    assert joined([]).step == 0


@pytest.mark.parametrize("every", [1, 3, 7, 13])
def test_a_mean_over_the_epoch_so_far_is_taken_apart(every):
    losses = np.random.default_rng(1).random(30)
    logged = np.concatenate([np.cumsum(part) / np.arange(1, 11) for part in np.split(losses, 3)])
    rows = [(step, 0.0, {"loss": logged[step - 1]}) for step in range(every, 31, every)]
    found = each_step(points_of(rows), "loss", {0: 10})
    before = 0
    for step, value in zip(found.steps, found.values["loss"], strict=True):
        since = max(before, (step - 1) // 10 * 10)
        assert value == pytest.approx(losses[since:step].mean(), abs=1e-4)
        before = step


def test_epochs_of_a_scripts_trainings_have_lengths_of_their_own():
    # Two of three steps, and then two of two; the mean over the epoch so far is 1, 2, ….
    logged = [1.0, 1.5, 2.0, 1.0, 1.5, 2.0, 1.0, 1.5, 1.0, 1.5]
    points = points_of((step + 1, 0.0, {"loss": value}) for step, value in enumerate(logged))
    found = each_step(points, "loss", {0: 3, 6: 2}).values["loss"]
    assert found == [1, 2, 3, 1, 2, 3, 1, 2, 1, 2]


def test_steps_that_do_not_ascend_are_passed_over():
    points = points_of([(1, 0.0, {"loss": 1.0}), (1, 0.0, {"loss": 5.0}), (2, 0.0, {"loss": 2.0})])
    assert each_step(points, "loss", {0: 10}).values["loss"] == [1.0, 3.0]


def test_a_life_that_fails_before_its_first_step_changes_no_means():
    recorder = Recorder(1)
    recorder.begin(0, 2, 2)
    recorder.means = ["loss"]
    recorder.call({"loss": [1.0]}, [1.0], [0.0])
    assert joined([recorder.frozen().life(), Recorder(2).frozen().life()]).means == {"loss"}
