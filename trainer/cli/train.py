"""`trainer train` and `trainer worker`."""

import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import click

from trainer.cli.options import (
    AS_JSON,
    HELP_NAMES,
    apply_options,
    config_option,
    examples,
    json_option,
    print_json,
    set_option,
)
from trainer.cli.output import drop_output
from trainer.errors import StoppedError
from trainer.stop import StopRequest


@dataclass(frozen=True)
class _Request:
    """The options, as they were given."""

    config_name: str
    overrides: Sequence[str]
    allow_change: Sequence[str]
    dry_run: bool
    as_json: bool


_run_options = apply_options(
    config_option,
    set_option,
    click.option(
        "--allow-change", multiple=True, metavar="KEY",
        help="Let a changeable key differ from the run's; repeatable.",
    ),
    click.option(
        "--dry-run", is_flag=True,
        help="Check configuration, data and run, print the resolved configuration, touch nothing.",
    ),
    json_option,
)  # fmt: skip


@click.command(
    context_settings=HELP_NAMES,
    epilog=examples(
        "trainer train -c fashion_mnist",
        "trainer train -c run.yaml --set train.epochs=20 --set run.dir=runs/long",
        "trainer train -c run.yaml --set params.learning_rate=0.0001 \\",
        "    --allow-change params.learning_rate",
        "trainer train -c run.yaml --dry-run",
    ),
)
@_run_options
def train(**options: Any) -> None:
    """Train to the end, or go on from the run's last checkpoint.

    Ends with 0 when the run is complete, with 143 after SIGTERM and 130 after Ctrl-C (saved;
    a second signal quits at once), and otherwise by the exit codes in docs/failures.md.

    Without a terminal, and with --json, every line of the output is a JSON object; the last
    one is the run's summary. An error is one on standard error.
    """
    raise click.exceptions.Exit(_run(_Request(**options)))


@click.command(
    context_settings=HELP_NAMES, epilog=examples("trainer worker -c fashion_mnist --json")
)
@_run_options
def worker(**options: Any) -> None:
    """The training process alone, for debugging: ends with 75 after an agreed stop."""
    code = _run(_Request(**options))
    raise click.exceptions.Exit(StoppedError.exit_code if code > 128 else code)


def _run(request: _Request) -> int:
    """Train; returns the exit code."""
    # First of all: from here on a signal ends the process with its own exit code.
    stop = StopRequest()
    stop.install()
    import trainer.storage
    from trainer.launch import Launch, launch
    from trainer.log import is_for_machines
    from trainer.recipes.catalog import load_run

    context = click.get_current_context()
    context.meta[AS_JSON] = request.as_json or not sys.stderr.isatty()
    overrides = (*request.overrides, *(["log.format=json"] if request.as_json else []))
    config, recipe, params = load_run(request.config_name, overrides)
    context.meta[AS_JSON] = is_for_machines(config.log, sys.stderr)
    # Tests pass a storage that fails on purpose as the context's object.
    open_storage = context.obj or trainer.storage.open_storage
    start = Launch(config, recipe, params, request.allow_change)
    if request.dry_run:
        _show_plan(start, as_json=request.as_json)
        return 0
    try:
        outcome = launch(start, stop, open_storage=open_storage)
        with suppress(OSError):
            if outcome.summary is not None and is_for_machines(config.log):
                print_json({"event": "summary", **outcome.summary}, indent=None)
            elif outcome.summary is not None:
                from trainer.cli.summary import show_summary

                show_summary(config, outcome, request.config_name, request.overrides)
        return outcome.exit_code
    finally:
        # A complete run is complete, even when nobody reads it any more.
        drop_output()


def _show_plan(start: Any, *, as_json: bool) -> None:
    from trainer.config import dump
    from trainer.launch import check

    check(start)
    if as_json:
        print_json(start.config.model_dump(mode="json"))
    else:
        click.echo(dump(start.config), nl=False)
