"""Tables for people. rich is loaded when one is printed."""

import sys
import time
from collections.abc import Iterable, Sequence

# Without a terminal nothing is cut off: a path must stay whole in a file or behind a pipe.
_WIDTH_OF_A_FILE = 400


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A table with a line of headings; `>NAME` aligns a column to the right."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for column in columns:
        is_right = column.startswith(">")
        table.add_column(
            column.removeprefix(">"), justify="right" if is_right else "left", overflow="fold"
        )
    for row in rows:
        table.add_row(*map(printable, row))
    console = Console(width=_width(), highlight=False, markup=False)
    with console.capture() as shown:
        console.print(table)
    # Not by rich, which would end the process where the reader has left.
    print(shown.get(), end="")


def print_facts(facts: Iterable[tuple[str, str]]) -> None:
    """Names and values, one a line; values are never cut off, so that they can be copied."""
    pairs = list(facts)
    width = max(len(name) for name, _ in pairs)
    for name, value in pairs:
        print(f"{name:<{width}}  {printable(value)}")


def printable(text: str) -> str:
    """One line that no terminal obeys: what cannot be shown, or encoded, becomes U+FFFD."""
    lines = " ".join(text.splitlines())
    return "".join(char if char.isprintable() else "\ufffd" for char in lines)


def counted(number: int, noun: str) -> str:
    """As in "1 epoch", "2 epochs"."""
    return f"{number} {noun}" + ("" if number == 1 else "s")


def megabytes(num_bytes: int) -> str:
    """A size for people."""
    return f"{num_bytes / 1e6:,.1f} MB"


def local_time(seconds: float) -> str:
    """A Unix time for people, where they are."""
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
    except (OverflowError, ValueError, OSError):
        return "?"


def _width() -> int | None:
    return None if sys.stdout.isatty() else _WIDTH_OF_A_FILE
