"""What a run's time went to: its generations below each other."""

from typing import Any

from trainer.goodput import CAUSES
from trainer.run.facts import RunFacts
from trainer.run.report.chart import Chart, file_name

CAUSE_COLOURS = {
    "step": "#009E73", "data_wait": "#E69F00", "redone": "#D55E00", "validation": "#56B4E9",
    "checkpoint": "#CC79A7", "restore": "#A0662D", "compile": "#8A7CC2", "startup": "#999999",
    "gathering": "#B8A800", "down": "#B3261E",
}  # fmt: skip
_MOST = 30


def time_line(run: RunFacts, number: int) -> Chart | None:
    """The run's generations below each other, each with what its seconds went to, in order.

    number: of the run on its page. None where there is no ledger.
    """
    generations = [each for each in run.ledger.generations if each.seconds]
    shown = generations[-_MOST:]
    if not shown:
        return None
    start = shown[0].start

    def draw(axes: Any) -> None:
        scale, unit = _time_unit(shown[-1].start + sum(shown[-1].seconds.values()) - start)
        for row, generation in enumerate(shown):
            at = generation.start - start
            for cause, seconds in generation.seconds.items():
                colour = CAUSE_COLOURS.get(cause, "#999999")
                axes.barh(row, seconds / scale, 0.62, left=at / scale, color=colour, linewidth=0)
                at += seconds
            made = [each.created for each in run.checkpoints if each.fence == generation.number]
            times = [(time - start) / scale for time in made if time is not None]
            ink = axes.yaxis.label.get_color()
            axes.plot(times, [row + 0.42] * len(times), "^", color=ink, markersize=3)
        axes.set_yticks(range(len(shown)), [f"{each.number}" for each in shown])
        axes.set_ylim(len(shown) - 0.4, -0.6)
        axes.set_ylabel("generation")
        axes.set_xlabel(f"{unit} since the {'start' if shown == generations else 'first of these'}")
        axes.grid(visible=False, axis="y")
        from matplotlib.patches import Patch

        causes = [cause for cause in CAUSES if any(cause in each.seconds for each in shown)]
        patches = [Patch(color=CAUSE_COLOURS[cause], label=cause) for cause in causes]
        axes.legend(
            handles=patches, loc="lower left", bbox_to_anchor=(0, 0), ncols=4, fontsize=8.5,
            bbox_transform=axes.figure.transFigure, handlelength=1, columnspacing=1,
        )  # fmt: skip

    more = (
        f"the last {len(shown)} of {len(generations)} generations; " if shown != generations else ""
    )
    return Chart(
        f"time_line-{number}-{file_name(run.name)}", "what the time went to", draw,
        f"{more}causes in the order in which they first came, not each stretch of them; triangles: "
        "checkpoints that are kept",
        height=1.6 + 0.24 * len(shown), bottom=1.1,
    )  # fmt: skip


def _time_unit(seconds: float) -> tuple[float, str]:
    for scale, unit in ((86_400.0, "days"), (3600.0, "hours"), (60.0, "minutes")):
        if seconds > 2 * scale:
            return scale, unit
    return 1.0, "seconds"
