"""One chart of a report, as SVG for the page and as a PNG file.

Text and axes of an SVG have the colour of the page's text, and nothing has a background, so that
they are read on light and on dark. All are as wide as a phone, and text keeps its size there.
"""

import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from trainer.pictures.figure import new_figure, rendered, style

# Okabe and Ito's, which the colour-blind tell apart, as far as they are seen on light and dark.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8A7CC2", "#999999")
_WIDTH, _HEIGHT = 4.2, 2.7  # inches
_INK = "#102030"  # stands for the colour of the page's text


@dataclass(frozen=True)
class Chart:
    """One chart: `name` is plain, `caption` says how to read it, `draw` draws into axes."""

    name: str
    title: str
    draw: Callable[[Any], None]
    caption: str = ""
    height: float = _HEIGHT
    bottom: float = 0.5  # inches below the axes

    def svg(self) -> str:
        """An <svg> element, to stand in a page."""
        return _bare(self._rendered("svg", _INK).decode())

    def png(self) -> bytes:
        """A file, on white."""
        return self._rendered("png", "black")

    def _rendered(self, kind: str, ink: str) -> bytes:
        with _drawing(ink, is_transparent=kind == "svg", salt=self.name):
            figure = new_figure(_WIDTH, self.height)
            # Axes are where they are in all charts, in line; that also takes half the time.
            figure.set_layout_engine("none")
            left, right, top = (
                inches / _WIDTH for inches in (0.62, 0.1, 0.3 * _WIDTH / self.height)
            )
            bottom = self.bottom / self.height
            axes = figure.add_axes((left, bottom, 1 - left - right, 1 - bottom - top))
            self.draw(axes)
            axes.set_title(self.title, loc="left", weight="bold")
            return rendered(figure, kind)


@contextmanager
def _drawing(ink: str, *, is_transparent: bool, salt: str) -> Iterator[None]:
    import matplotlib

    inked = ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color")
    look: dict[Any, Any] = {
        **dict.fromkeys((*inked, "grid.color"), ink),
        "axes.titlesize": 11,
        "grid.alpha": 0.18,
        "font.size": 9.5,
        "savefig.transparent": is_transparent,
        "savefig.dpi": 200,
        "svg.fonttype": "none",
        "svg.hashsalt": salt,
    }
    with warnings.catch_warnings(), style(), matplotlib.rc_context(look):
        # Of letters that its own font lacks, and a browser's has.
        warnings.simplefilter("ignore")
        yield


def _bare(svg: str) -> str:
    """Without what a file needs, and without names that another chart of the page has, too."""
    svg = svg[svg.index("<svg") :].replace("xlink:href", "href").replace(_INK, "currentColor")
    svg = svg.replace(COLOURS[0].lower(), "var(--blue)")  # dark on dark
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(<svg [^>]*?) width="[^"]*"| height="[^"]*pt"', r"\1", svg, count=2)
    return re.sub(r'<g id="[^"]*"', "<g", svg)


def with_names_of_their_own(charts: Sequence[Chart]) -> list[Chart]:
    """The same, the second of a name with a number."""
    named: dict[str, Chart] = {}
    for chart in charts:
        name, number = chart.name, 1
        while name in named:
            number += 1
            name = f"{chart.name}-{number}"
        named[name] = replace(chart, name=name)
    return list(named.values())


def plain(text: str) -> str:
    """Printable, on one line, and not so long; no label that Matplotlib leaves out."""
    shown = "".join(char if char.isprintable() else "�" for char in text).lstrip("_") or "unnamed"
    return shown if len(shown) <= 28 else f"{shown[:27]}…"


def file_name(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]+", "-", text)[:60] or "unnamed"
