"""A number for each step in bounded memory."""

import numpy as np
import pytest

from trainer.pictures.series import _MOST_POINTS, Series


def filled(count: int) -> Series:
    """0, 1, 2 … of so many steps."""
    series = Series()
    for value in range(count):
        series.add(float(value))
    return series


def test_few_steps_are_kept_as_they_are():
    series = filled(3)
    assert series.points().tolist() == [[0, 0, 0], [1, 1, 1], [2, 2, 2]]
    assert series.middles().tolist() == [0.5, 1.5, 2.5]


@pytest.mark.parametrize("count", [_MOST_POINTS, 3 * _MOST_POINTS + 5])
def test_neighbours_become_one_and_no_outlier_is_lost(count):
    series = filled(count)
    each, points = series.steps_per_point, series.points()
    assert len(points) < _MOST_POINTS
    assert len(points) == count // each
    first = np.arange(len(points)) * each
    assert points[:, 0].tolist() == first.tolist()
    assert points[:, 1].tolist() == (first + (each - 1) / 2).tolist()
    assert points[:, 2].tolist() == (first + each - 1).tolist()
    assert series.middles()[-1] == first[-1] + each / 2


@pytest.mark.parametrize("count", [0, 3, _MOST_POINTS - 1, 2 * _MOST_POINTS + 1])
def test_a_series_goes_on_from_its_state(count):
    one, other = filled(count), Series()
    other.set_state(one.get_state())
    for series in (one, other):
        for value in range(_MOST_POINTS):
            series.add(value / 3)
    assert one.points().tolist() == other.points().tolist()
    assert one.steps_per_point == other.steps_per_point
