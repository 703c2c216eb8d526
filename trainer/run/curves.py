"""The curves of a run: loss, metrics, learning rate and speed by step, in bounded memory.

Pure. A `Recorder` takes what the steps of one life say; `joined` makes one curve of all lives, in
which steps that were made again are there once, as they were made last.
"""

import math
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Annotated, Any

from pydantic import Field

MOST_POINTS = 2000
MOST_NAMES = 50
_MOST_TRAININGS = 1000
# Bounds of the classes of step durations: so many a power of ten.
PER_DECADE = 10

_Step = Annotated[int, Field(ge=0, le=1 << 53)]
_Length = Annotated[int, Field(ge=1, le=1 << 53)]
_Class = Annotated[int, Field(ge=-(1 << 53), le=1 << 53)]
_Finite = Annotated[float, Field(allow_inf_nan=False)]
_Name = Annotated[str, Field(max_length=200)]


@dataclass(frozen=True)
class Points:
    """Columns of one length: steps that ascend, their Unix times, values by name.

    A value is None where there was none, or none that is finite.
    """

    steps: list[_Step] = field(default_factory=list)
    times: list[_Finite] = field(default_factory=list)
    values: dict[_Name, list[_Finite | None]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        columns: list[list[Any]] = [self.times, *self.values.values()]
        if any(len(column) != len(self.steps) for column in columns):
            raise ValueError("columns of different lengths")

    def rows(self) -> Iterator["Row"]:
        """Point by point."""
        for index, step in enumerate(self.steps):
            values = {name: column[index] for name, column in self.values.items()}
            yield step, self.times[index], values


Row = tuple[int, float, Mapping[str, float | None]]


def points_of(rows: Iterable[Row]) -> Points:
    """Rows as columns; values have six digits, times milliseconds."""
    rows = list(rows)
    names = list(dict.fromkeys(name for _, _, values in rows for name in values))[:MOST_NAMES]
    return Points(
        [step for step, _, _ in rows],
        [round(time, 3) for _, time, _ in rows],
        {name[:200]: [_short(values.get(name)) for _, _, values in rows] for name in names},
    )


def _short(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(f"{value:.6g}")


@dataclass(frozen=True)
class LifeCurves:
    """What one life of the workers left.

    number: its fence. start: the step that it went on from. target: that it was to reach.
    steps_per_epoch: from a step on; a script has one for each of its trainings.
    train: the logs of steps, which Keras averages over the epoch so far. epochs: the logs of whole
    epochs, `val_…` of validation. rate: `learning_rate`. speed: of all steps of this life so far
    that were timed `num`, the `seconds` that they took and that they `waited` for data.
    durations: so many steps took 10^(key / PER_DECADE) seconds, up to the next key. means: names of
    which the logs of steps are means over the epoch so far.
    """

    number: _Step
    start: _Step
    target: _Step = 0
    steps_per_epoch: dict[_Step, _Length] = field(default_factory=dict)
    train: Points = field(default_factory=Points)
    epochs: Points = field(default_factory=Points)
    rate: Points = field(default_factory=Points)
    speed: Points = field(default_factory=Points)
    durations: dict[_Class, _Step] = field(default_factory=dict)
    means: list[_Name] = field(default_factory=list)


class Thinned:
    """Rows by step, at most `most`: whenever they are full, every second one is dropped."""

    def __init__(self, most: int = MOST_POINTS) -> None:
        self.rows: list[Row] = []
        self.due = 0  # no step before it is wanted
        self._most = most
        self._stride = 1

    def add(self, step: int, time: float, values: Mapping[str, float | None]) -> None:
        """Keep a row, if its step is wanted."""
        if step < self.due:
            return
        self.rows.append((step, time, values))
        if len(self.rows) >= self._most:
            # Steps may be further from each other than the stride: so are all that follow.
            spacing = (self.rows[-1][0] - self.rows[0][0]) // (len(self.rows) - 1)
            self._stride = 2 * max(self._stride, spacing)
            del self.rows[::2]
        self.due = (step // self._stride + 1) * self._stride


class Recorder:
    """The curves of one life, as its steps are made. Times are Unix times."""

    def __init__(self, number: int) -> None:
        self.means: list[str] | None = None
        self._number = number
        self._start: int | None = None
        self._target = self._step = 0
        self._steps_per_epoch: dict[int, int] = {}
        self._train, self._epochs = Thinned(), Thinned()
        self._rate, self._speed = Thinned(MOST_POINTS // 4), Thinned(MOST_POINTS // 4)
        self._durations: dict[int, int] = {}
        self._ended: float | None = None
        self._num, self._seconds, self._waited = 0, 0.0, 0.0

    def begin(self, step: int, target: int, steps_per_epoch: int, *, first_step: int = 0) -> None:
        """So many steps of the run are done, of which `first_step` before the first epoch.

        A script has several trainings in a life.
        """
        self._start = step if self._start is None else self._start
        self._step, self._target = step, target
        self._steps_per_epoch[first_step] = steps_per_epoch
        while len(self._steps_per_epoch) > _MOST_TRAININGS:
            del self._steps_per_epoch[min(self._steps_per_epoch)]
        self._train.due = max(self._train.due, step + 1)
        self._ended = None

    def call(
        self, logs: Mapping[str, Sequence[float]], ended: Sequence[float], waited: Sequence[float]
    ) -> None:
        """The next steps: of each its logs, its end, and the seconds that it waited for data."""
        for at, wait in zip(ended, waited, strict=True):
            if self._ended is not None:
                self._took(max(at - self._ended, 0.0), wait)
            self._ended = at
        first = self._step + 1
        self._step += len(ended)
        train = self._train
        while train.due <= self._step:
            index = train.due - first
            values = {name: float(column[index]) for name, column in logs.items()}
            train.add(train.due, ended[index], values)
        if self._num and self._step >= self._speed.due:
            now = {"num": float(self._num), "seconds": self._seconds, "waited": self._waited}
            self._speed.add(self._step, ended[-1], now)

    def _took(self, seconds: float, waited: float) -> None:
        self._num += 1
        self._seconds += seconds
        self._waited += min(max(waited, 0.0), seconds)
        key = math.floor(PER_DECADE * math.log10(max(seconds, 1e-6)))
        self._durations[key] = self._durations.get(key, 0) + 1

    def pause(self) -> None:
        """What follows until the next step's end is no step's time."""
        self._ended = None

    def epoch(self, logs: Mapping[str, float], time: float) -> None:
        """The logs of an epoch that has ended."""
        self._epochs.add(self._step, time, dict(logs))

    def rate(self, value: float, time: float) -> None:
        """The learning rate now."""
        self._rate.add(self._step, time, {"learning_rate": value})

    def frozen(self) -> "Frozen":
        """What there is now, for another thread."""
        series = (self._train, self._epochs, self._rate, self._speed)
        about = (self._number, self._start or 0, self._target, dict(self._steps_per_epoch))
        rows = tuple(tuple(each.rows) for each in series)
        return Frozen(about, rows, dict(self._durations), list(self.means or ()))


@dataclass(frozen=True)
class Frozen:
    """A copy of a recorder's rows, which is quickly made; `life` takes longer."""

    about: tuple[int, int, int, dict[int, int]]
    rows: tuple[tuple[Row, ...], ...]
    durations: dict[int, int]
    means: list[str]

    def life(self) -> LifeCurves:
        """As it is kept."""
        train, epochs, rate, speed = map(points_of, self.rows)
        return LifeCurves(
            *self.about, train=train, epochs=epochs, rate=rate, speed=speed,
            durations=self.durations,
            means=[name for name in self.means if name in train.values],
        )  # fmt: skip


@dataclass(frozen=True)
class Curves:
    """Those of a whole run. speed: `steps_per_second`, and the share `data_wait` of that time.

    durations: of each life, by its number. means: as of the last life that made a step.
    """

    train: Points = field(default_factory=Points)
    epochs: Points = field(default_factory=Points)
    rate: Points = field(default_factory=Points)
    speed: Points = field(default_factory=Points)
    durations: dict[int, dict[int, int]] = field(default_factory=dict)
    means: frozenset[str] = frozenset()
    target: int = 0
    steps_per_epoch: dict[int, int] = field(default_factory=dict)

    @property
    def step(self) -> int:
        """The last one that a curve has."""
        return max(
            (points.steps[-1] for points in (self.train, self.speed) if points.steps), default=0
        )


def joined(lives: Sequence[LifeCurves]) -> Curves:
    """One run of all its lives: each counts up to the step that a later one went on from."""
    ordered = sorted(lives, key=lambda life: life.number)
    ends = [
        min((later.start for later in ordered[i + 1 :]), default=None) for i in range(len(ordered))
    ]
    last = ordered[-1] if ordered else LifeCurves(0, 0)

    def series(name: str) -> Points:
        return points_of(
            row
            for life, end in zip(ordered, ends, strict=True)
            for row in (_speeds(life) if name == "speed" else getattr(life, name).rows())
            if end is None or row[0] <= end
        )

    return Curves(
        train=series("train"), epochs=series("epochs"), rate=series("rate"), speed=series("speed"),
        durations={life.number: life.durations for life in ordered if life.durations},
        means=frozenset(next((life.means for life in reversed(ordered) if life.train.steps), ())),
        target=last.target,
        steps_per_epoch={at: num for life in ordered for at, num in life.steps_per_epoch.items()},
    )  # fmt: skip


def _speeds(life: LifeCurves) -> Iterator[Row]:
    """How fast steps were between two points."""
    rows = list(life.speed.rows())
    start: Row = (life.start, 0.0, {"num": 0.0, "seconds": 0.0, "waited": 0.0})
    for before, (step, time, sums) in pairwise([start, *rows]):
        num, seconds, waited = (
            (sums.get(name) or 0.0) - (before[2].get(name) or 0.0)
            for name in ("num", "seconds", "waited")
        )
        if num > 0 and seconds > 0:
            yield step, time, {"steps_per_second": num / seconds, "data_wait": waited / seconds}


def each_step(points: Points, name: str, steps_per_epoch: Mapping[int, int]) -> Points:
    """What is logged as a mean over the epoch so far, as the mean of the steps since the point
    before. Batches count alike, of which an epoch's last may be smaller.
    """
    rows: list[Row] = []
    firsts = sorted(steps_per_epoch)
    done, mean, begun = 0, 0.0, -1
    for step, time, values in points.rows():
        if (value := values.get(name)) is None:
            continue
        first = firsts[max(bisect_left(firsts, step) - 1, 0)] if firsts else 0
        num = (step - 1 - first) % steps_per_epoch.get(first, 1) + 1  # of its epoch
        if step - num != begun:
            done, mean, begun = 0, 0.0, step - num
        if num <= done:  # a damaged file, in which steps do not ascend
            continue
        rows.append((step, time, {name: (value * num - mean * done) / (num - done)}))
        done, mean = num, value
    return points_of(rows)
