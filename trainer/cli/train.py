"""`trainer train` and `trainer worker`."""

from typing import Any

import click

from trainer.cli.options import config_option, json_option, leave, print_json, set_option
from trainer.config import dump
from trainer.stop import StopRequest

_STOPPED = 75


def _run_options(command: Any) -> Any:
    options = (
        config_option,
        set_option,
        click.option(
            "--allow-change", multiple=True, metavar="KEY",
            help="Let a changeable key differ from the run's; repeatable.",
        ),
        click.option("--dry-run", is_flag=True, help="Check everything, touch nothing."),
        json_option,
    )  # fmt: skip
    for option in reversed(options):
        command = option(command)
    return command


@click.command(
    epilog="Examples:\n\n  trainer train -c fashion_mnist\n\n"
    "  trainer train -c run.yaml --set train.epochs=20\n\n"
    "  trainer train -c run.yaml --set params.learning_rate=0.0001 "
    "--allow-change params.learning_rate"
)
@_run_options
def train(**options: Any) -> None:
    """Train to the end, or go on from the run's last checkpoint.

    Ends with 0 when the run is complete, with 143 after SIGTERM and 130 after Ctrl-C (saved;
    a second signal quits at once), and otherwise by the exit codes in docs/failures.md.
    """
    _run(stopped_code=None, **options)


@click.command()
@_run_options
def worker(**options: Any) -> None:
    """The training process alone, for debugging: ends with 75 after an agreed stop."""
    _run(stopped_code=_STOPPED, **options)


def _run(
    *, config_name: str, overrides: tuple[str, ...], allow_change: tuple[str, ...],
    dry_run: bool, as_json: bool, stopped_code: int | None,
) -> None:  # fmt: skip
    # First of all: from here on a signal ends the process with its own exit code.
    stop = StopRequest()
    stop.install()
    from trainer.launch import Launch, check_data, launch
    from trainer.recipes.catalog import load_run

    if as_json:
        overrides = (*overrides, "log.format=json")
    config, recipe, params = load_run(config_name, overrides)
    if dry_run:
        check_data(config)
        click.echo(dump(config), nl=False)
        return
    outcome = launch(Launch(config, recipe, params, allow_change), stop)
    if outcome.summary is not None:
        from trainer.cli.summary import show_summary

        if as_json:
            print_json(outcome.summary)
        else:
            show_summary(config, outcome)
    stopped = outcome.exit_code != 0 and stopped_code is not None
    leave(stopped_code if stopped and stopped_code is not None else outcome.exit_code)
