"""The curves of a report, of one run or of several in one picture."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from trainer.run.curves import PER_DECADE, Points, each_step
from trainer.run.facts import RunFacts
from trainer.run.report.chart import COLOURS, Chart, file_name, plain, with_names_of_their_own

_MOST_METRICS = 12
_MOST_SPEEDS = 150
_MOST_MARKERS = 60
_MOST_CLASSES = 200
_SMOOTHED = 1 / 50  # of all points, so many are averaged
_MOST = 1e100  # values that are larger, Matplotlib cannot draw
_MOST_CLASS = 1000  # of step durations: the 100th power of ten
_WIDE_RANGE = 100  # from there on, powers of ten


def charts_of(runs: Sequence[RunFacts]) -> list[Chart]:
    """All charts that there is something for, of these runs in one picture."""
    found = [_metric(runs, name) for name in _metric_names(runs)[:_MOST_METRICS]]
    if any(run.curves.rate.steps for run in runs):
        found.append(_rate(runs))
    if any(run.curves.speed.steps for run in runs):
        found += [_speed(runs), _wait(runs)]
    if any(run.curves.durations for run in runs):
        found.append(_durations(runs))
    return with_names_of_their_own(found)


def num_left_out(runs: Sequence[RunFacts]) -> int:
    """So many metrics have no chart, because there are too many."""
    return max(len(_metric_names(runs)) - _MOST_METRICS, 0)


def _metric_names(runs: Sequence[RunFacts]) -> list[str]:
    """The loss first; each is of training, of validation, or of both."""
    found: dict[str, None] = {}
    for run in runs:
        for points in (run.curves.train, run.curves.epochs):
            found |= dict.fromkeys(name.removeprefix("val_") for name in points.values)
    found.pop("learning_rate", None)
    return sorted(found, key=lambda name: (name != "loss", name))


def _metric(runs: Sequence[RunFacts], name: str) -> Chart:
    of_steps = any(name in run.curves.means for run in runs)

    def draw(axes: Any) -> None:
        drawn = []
        for number, run in enumerate(runs):
            colour, is_alone = COLOURS[number % len(COLOURS)], len(runs) == 1
            label = "training" if is_alone else plain(run.name)
            drawn.append(_draw_training(axes, run, name, colour, label, is_alone=is_alone))
            steps, values = _column(run.curves.epochs, f"val_{name}")
            axes.plot(
                steps, values, "--o", markersize=2.5 if len(steps) < _MOST_MARKERS else 0,
                color="#D55E00" if is_alone else colour, linewidth=1.2,
                label="validation" if is_alone and len(steps) else "_",
            )  # fmt: skip
            drawn.append(values)
        _scale(axes, np.concatenate(drawn))
        _show_steps(axes)
        _legend(axes)

    training = (
        "steps, and their moving average" if of_steps else "as Keras logs it, over the epoch so far"
    )
    dashed = "; dashed: validation" if len(runs) > 1 else ""
    return Chart(f"metric-{file_name(name)}", plain(name), draw, f"training: {training}{dashed}")


def _draw_training(
    axes: Any, run: RunFacts, name: str, colour: str, label: str, *, is_alone: bool
) -> Any:
    """Draw what steps say, or epochs where steps say nothing; returns the values."""
    curves = run.curves
    if name not in curves.means:
        source = curves.train if name in curves.train.values else curves.epochs
        steps, values = _column(source, name)
        axes.plot(steps, values, color=colour, label=label if len(steps) else "_", linewidth=1.2)
        return values
    steps, values = _column(each_step(curves.train, name, curves.steps_per_epoch), name)
    if is_alone:
        axes.plot(steps, values, color=colour, alpha=0.3, linewidth=0.7)
    width = max(int(len(values) * _SMOOTHED), 1)
    window = np.ones(width) / width
    smooth = np.convolve(values, window, "valid") if len(values) else values
    middles = np.convolve(steps, window, "valid") if len(values) else steps
    axes.plot(middles, smooth, color=colour, label=label, linewidth=1.4)
    return values if is_alone else smooth


def _column(points: Points, name: str) -> tuple[Any, Any]:
    """float64 steps and values, of those points that have one that can be drawn."""
    values = np.array(points.values.get(name, []), np.float64)
    steps = np.array(points.steps, np.float64)[: len(values)]
    there = np.abs(values) < _MOST
    return steps[there], values[there]


def _scale(axes: Any, values: Any) -> None:
    if values.size and values.min() > 0 and values.max() / values.min() > _WIDE_RANGE:
        axes.set_yscale("log")
        # Matplotlib's own are formulas, which are not read as such here.
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.yaxis.set_minor_formatter("")


def _rate(runs: Sequence[RunFacts]) -> Chart:
    def draw(axes: Any) -> None:
        drawn = []
        for number, run in enumerate(runs):
            steps, values = _column(run.curves.rate, "learning_rate")
            axes.step(steps, values, where="post", linewidth=1.4, **_of_run(runs, number))
            drawn.append(values)
        _scale(axes, np.concatenate(drawn))
        if axes.get_yscale() == "linear":
            axes.set_ylim(bottom=0)
            axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        _show_steps(axes)
        _legend(axes)

    return Chart("learning_rate", "learning rate", draw)


def _of_run(runs: Sequence[RunFacts], number: int) -> dict[str, Any]:
    colour = COLOURS[number % len(COLOURS)]
    return {"color": colour, "label": plain(runs[number].name) if len(runs) > 1 else "_"}


def _speed(runs: Sequence[RunFacts]) -> Chart:
    def draw(axes: Any) -> None:
        for number, run in enumerate(runs):
            steps, speeds, _ = _speeds(run)
            axes.plot(steps, speeds, linewidth=1.2, **_of_run(runs, number))
        axes.set_ylim(bottom=0)
        _show_steps(axes)
        _legend(axes)

    return Chart(
        "throughput",
        "throughput",
        draw,
        "steps a second, without validation and what lies between epochs",
    )


def _wait(runs: Sequence[RunFacts]) -> Chart:
    def draw(axes: Any) -> None:
        highest = 0.05
        for number, run in enumerate(runs):
            steps, _, waits = _speeds(run)
            axes.plot(steps, waits, linewidth=1.2, **_of_run(runs, number))
            highest = max([highest, *waits])
        axes.set_ylim(0, highest * 1.05)
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
        _show_steps(axes)
        _legend(axes)

    return Chart("data_wait", "waiting for data", draw, "share of the time of steps")


def _speeds(run: RunFacts) -> tuple[Any, Any, Any]:
    """float64 [points] each: steps, steps a second, share of waiting; neighbours are averaged."""
    speed = run.curves.speed
    steps = np.array(speed.steps, np.float64)
    speeds, waits = (
        np.array(speed.values.get(name, []), np.float64)
        for name in ("steps_per_second", "data_wait")
    )
    groups = np.array_split(np.arange(len(steps)), max(min(len(steps), _MOST_SPEEDS), 1))
    groups = [group for group in groups if len(group)]
    with np.errstate(all="ignore"):
        ends = np.array([steps[group].max() for group in groups])
        # Of speeds the harmonic mean: their steps are as many, their seconds are not.
        means = np.array([1 / np.nanmean(1 / speeds[group]) for group in groups])
        shares = np.array([np.nanmean(waits[group]) for group in groups])
    means, shares = (np.where(np.abs(each) < _MOST, each, 0.0) for each in (means, shares))
    return ends, means, shares


def _durations(runs: Sequence[RunFacts]) -> Chart:
    is_alone = len(runs) == 1

    def draw(axes: Any) -> None:
        from matplotlib.ticker import FixedLocator

        for number, run in enumerate(runs):
            lives = list(run.curves.durations.values())
            look = _of_run(runs, number) | ({"label": "all"} if is_alone else {})
            _draw_shares(axes, lives, fill=is_alone, alpha=0.6 if is_alone else 1, **look)
            if is_alone and len(lives) > 1:
                _draw_shares(axes, lives[-1:], color=COLOURS[1], label="last generation")
        axes.set_xscale("log")
        first, last = axes.get_xlim()
        axes.set_xlim(first / 1.6, last * 1.6)  # so far that a number is there
        parts = (1, 2, 5) if last / first < 50 else (1,)
        powers = range(math.floor(math.log10(first)), math.ceil(math.log10(last)) + 1)
        axes.xaxis.set_major_locator(FixedLocator([a * 10.0**b for b in powers for a in parts]))
        axes.xaxis.set_major_formatter(lambda value, _: _seconds(value))
        axes.xaxis.set_minor_formatter("")
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
        _legend(axes)

    return Chart(
        "step_durations", "how long steps take", draw,
        "share of steps, from the end of one to the end of the next; one in a tenth of a second is "
        "timed, and those between share evenly",
    )  # fmt: skip


def _draw_shares(axes: Any, lives: Sequence[Mapping[int, int]], **look: Any) -> None:
    counts: Counter[int] = Counter()
    for life in lives:
        counts.update({key: num for key, num in life.items() if abs(key) <= _MOST_CLASS})
    if not counts:
        return
    keys = np.arange(min(counts), min(max(counts), min(counts) + _MOST_CLASSES) + 1)
    shares = np.array([counts[int(key)] for key in keys], np.float64) / max(counts.total(), 1)
    edges = 10.0 ** (np.append(keys, keys[-1] + 1) / PER_DECADE)
    axes.stairs(shares, edges, linewidth=1.4, **look)


def _show_steps(axes: Any) -> None:
    from matplotlib.ticker import MaxNLocator, StrMethodFormatter

    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.set_xlabel("step")


def _legend(axes: Any) -> None:
    if any(not label.startswith("_") for label in axes.get_legend_handles_labels()[1]):
        axes.legend(fontsize=8.5)


def _seconds(seconds: float) -> str:
    """A short duration, as 12 ms."""
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:g} {unit}"
    return f"{seconds / 1e-6:g} µs"
