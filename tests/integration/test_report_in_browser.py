"""The page of `trainer report` in a real browser, on a desktop and on a phone, light and dark."""

import pytest

from tests.browser import chromium
from tests.small_report import folder
from trainer.run.facts import read_facts
from trainer.run.report.page import look_at, page

pytestmark = [pytest.mark.needs_chromium, pytest.mark.long]

NUM_CHARTS = "document.querySelectorAll('figure svg').length"
NUM_EMPTY = "[...document.querySelectorAll('svg')].filter(e => e.getBBox().width < 100).length"
OVERHANG = "document.documentElement.scrollWidth - window.innerWidth"
SMALLEST_TEXT = """Math.min(...[...document.querySelectorAll('svg text')].map(e => {
    const placed = e.getScreenCTM();  // turned ones are scaled, too
    return parseFloat(getComputedStyle(e).fontSize) * Math.hypot(placed.a, placed.b); }))"""
PICTURES = "[...document.images].every(e => e.complete && e.naturalWidth > 0)"
COLOURS = (
    "[document.body, document.querySelector('svg text')].map(e => [getComputedStyle(e)."
    "backgroundColor, getComputedStyle(e).fill])"
)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with chromium(tmp_path_factory.mktemp("profile")) as running:
        yield running


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """Of one run, and of two."""
    path = tmp_path_factory.mktemp("runs")
    runs = [folder(path, "fast"), folder(path, "slow", is_complete=False, rate=0.01)]
    files = []
    for number in (1, 2):
        shown = look_at([(run, read_facts(run)) for run in runs[:number]])
        files.append(path / f"report-{number}.html")
        files[-1].write_text(page(shown, now=0.0))
    return files


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("number", [1, 2])
def test_the_page_is_readable(browser, pages, number, width, dark):
    asked = (NUM_CHARTS, NUM_EMPTY, OVERHANG, SMALLEST_TEXT, PICTURES, COLOURS)
    seen = browser.look(pages[number - 1], *asked, width=width, dark=dark)
    assert not seen.errors
    assert [url for url in seen.requests if not url.startswith("data:")] == [
        pages[number - 1].as_uri()
    ]
    charts, empty, overhang, smallest, pictures, ((back, _), (_, ink)) = seen.values
    assert (charts, empty, pictures) == (6 + number, 0, True)
    assert overhang <= 0
    assert smallest > 9
    assert (brightness(back) < 60, brightness(ink) > 200) == (dark, dark)
    assert len(seen.png) > 20_000


def brightness(colour: str) -> float:
    """Of `rgb(r, g, b)`."""
    return sum(map(int, colour.partition("(")[2].rstrip(")").split(",")[:3])) / 3
