"""Figures that look alike, and are the same bytes whenever the same is drawn.

Matplotlib is imported when something is drawn, and its objects are used without pyplot, which
would keep figures and choose a screen.
"""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

# Okabe and Ito's colours, which the colour-blind tell apart.
BLUE, RED, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#777777"
_DOTS_PER_INCH = 100
_STYLE: dict[Any, Any] = {
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 11,
    "font.size": 9,
    "grid.alpha": 0.3,
    "legend.frameon": False,
    # Else SVG files have random names inside.
    "svg.hashsalt": "trainer",
    # A name with two dollars is no formula.
    "text.parse_math": False,
}
# Else the time and the version of Matplotlib would be in the files.
_METADATA: dict[str, dict[str, Any]] = {
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": None},
}


@contextmanager
def style() -> Iterator[None]:
    """Whatever is drawn inside looks as all pictures of a run do."""
    import matplotlib

    with matplotlib.rc_context(_STYLE):
        yield


def new_figure(width: float, height: float) -> Any:
    """An empty matplotlib Figure, of so many inches."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    # Inches between panels, so that what is below one does not stick to the title of the next.
    room = ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1)
    return Figure(figsize=(width, height), dpi=_DOTS_PER_INCH, layout=room)


def rendered(figure: Any, kind: str) -> bytes:
    """The figure as a file: `kind` is png or svg."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind, metadata=_METADATA[kind])
    return buffer.getvalue()


def head(figure: Any, text: str) -> None:
    """What the whole figure is about, apart from the titles of its panels."""
    figure.suptitle(text, x=0.01, ha="left", weight="bold", size=11)


def show_epochs(axes: Any, first: float, last: float) -> None:
    """The horizontal axis counts epochs, in whole numbers."""
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set_xlim(first, last)
    axes.set_xlabel("epoch")
