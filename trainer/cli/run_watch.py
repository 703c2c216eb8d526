"""`trainer runs watch`: how a run stands, until it is complete."""

import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from trainer.cli.options import examples, run_argument
from trainer.cli.run_status import facts_of, is_run, row, told
from trainer.errors import StorageError

if TYPE_CHECKING:
    from trainer.run.facts import RunFacts


@click.command(
    epilog=examples(
        "trainer runs watch gs://my-bucket/runs/demo",
        "trainer runs watch runs/local --every 10 >> progress.txt",
    )
)
@run_argument
@click.option(
    "--every", default=5.0, show_default=True, type=click.FloatRange(min=0.5), metavar="SECONDS",
    help="How often the run's folder is read.",
)  # fmt: skip
def watch(run_dir: str, every: float) -> None:
    """Show how a run stands until it is complete; Ctrl-C ends only the watching.

    A run that has not begun is waited for.

    Without a terminal, a line is printed whenever something has changed. A run that nobody trains
    is watched on, because it may go on: why it ended is said once.
    """
    try:
        _watch(run_dir, every)
    except KeyboardInterrupt:
        click.get_current_context().exit(130)


def _watch(run_dir: str, every: float) -> None:
    from trainer.cli.tables import printable

    if sys.stdout.isatty():
        _watch_on_terminal(run_dir, every)
        return
    said = why = ""
    for facts in _until_complete(run_dir, every):
        line = printable("  ".join(row(facts)))
        if line != said:
            click.echo(line)
        said = line
        ended = printable(_nobody(facts))
        if ended and ended != why:
            click.echo(ended, err=True)
        why = ended


def _watch_on_terminal(run_dir: str, every: float) -> None:
    from rich.live import Live
    from rich.table import Table
    from rich.text import Text

    from trainer.cli.tables import printable

    with Live(auto_refresh=False) as live:
        for facts in _until_complete(run_dir, every):
            table = Table.grid(padding=(0, 2))
            watching = [("watching", "until it goes on: nobody trains it")]
            for name, value in told(facts) + (watching if facts.is_broken_off else []):
                table.add_row(name, Text(printable(value)))
            live.update(table, refresh=True)


def _nobody(facts: "RunFacts") -> str:
    """Why nobody trains it, in a line; "" while somebody does."""
    if not facts.is_broken_off:
        return ""
    why = f": {facts.because}" if facts.because else ""
    return f"{facts.name} {facts.state}{why}; nobody trains it, still watching"


def _until_complete(run_dir: str, every: float) -> "Iterator[RunFacts]":
    from trainer.storage import open_storage

    open_storage(run_dir)  # what can never be a run is refused at once
    if not is_run(run_dir):
        click.echo(f"{run_dir} is no run yet: waiting for it to begin", err=True)
        while not _is_run_soon(run_dir):
            time.sleep(every)
    facts: RunFacts | None = facts_of(run_dir)
    while facts is None or facts.summary is None:
        if facts is not None:
            yield facts
        time.sleep(every)
        facts = _facts_soon(run_dir)
    yield facts


def _is_run_soon(run_dir: str) -> bool:
    """False while the store does not answer, too."""
    try:
        return is_run(run_dir)
    except StorageError as error:
        click.echo(f"{error}; still watching", err=True)
        return False


def _facts_soon(run_dir: str) -> "RunFacts | None":
    """None while the store does not answer: it did before, and may again."""
    try:
        return facts_of(run_dir)
    except StorageError as error:
        click.echo(f"{error}; still watching", err=True)
        return None
