"""`trainer train`, `trainer run` and `trainer worker`."""

import faulthandler
import signal
from typing import Any

import click

from trainer.cli.options import (
    HELP_NAMES,
    apply_options,
    config_option,
    examples,
    json_option,
    optional_config_option,
    set_option,
)
from trainer.cli.start import Request, run_worker, supervise
from trainer.cluster import MOST_WORKERS

_STDERR = 2

_options = apply_options(
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


_workers_option = click.option(
    "--workers", type=click.IntRange(1, MOST_WORKERS), metavar="N",
    help="Train on so many processes of this machine, as on so many pods.",
)  # fmt: skip


@click.command(
    context_settings=HELP_NAMES,
    epilog=examples(
        "trainer train -c fashion_mnist",
        "trainer train -c run.yaml --set train.epochs=20 --set run.dir=runs/long",
        "trainer train -c run.yaml --set params.learning_rate=0.0001 \\",
        "    --allow-change params.learning_rate",
        "trainer train -c run.yaml --workers 2",
        "trainer train -c run.yaml --dry-run",
    ),
)
@_workers_option
@config_option
@_options
def train(workers: int | None, **options: Any) -> None:
    """Train to the end, or go on from the run's last checkpoint.

    Ends with 0 when the run is complete, with 143 after SIGTERM and 130 after Ctrl-C (saved;
    a second signal quits at once), and otherwise by the exit codes in docs/failures.md.

    Without a terminal, and with --json, every line of the output is a JSON object; the last
    one is the run's summary. An error is one on standard error.
    """
    raise click.exceptions.Exit(supervise(Request(**options), workers))


@click.command(
    # What follows the script is its own.
    context_settings={
        **HELP_NAMES,
        "allow_interspersed_args": False,
        "ignore_unknown_options": True,
    },
    epilog=examples(
        "trainer run train.py --epochs 5",
        "trainer run --workers 2 train.py",
        "trainer run --set run.dir=gs://bucket/runs/mine --set checkpoint.every_steps=500 train.py",
    ),
)
@_workers_option
@optional_config_option
@_options
@click.argument(
    "script", nargs=-1, required=True, type=click.UNPROCESSED, metavar="SCRIPT [ARGS]..."
)
def run(workers: int | None, **options: Any) -> None:
    """Run a Python script whose models `trainer.fit` trains, to its end or on from where it was.

    In the script, trainer.fit(model, ...) stands where model.fit(...) stood, with the same
    arguments. Started again, it gives back at once what had ended, and goes on with the rest.
    Models that the script builds are distributed over --workers, or over the pods of a cluster.
    Arguments after SCRIPT are the script's own.

    Ends with the codes of trainer train: see docs/failures.md.
    """
    raise click.exceptions.Exit(supervise(Request(**options), workers))


@click.command(
    context_settings={**HELP_NAMES, "allow_interspersed_args": False},
    epilog=examples(
        "trainer worker -c fashion_mnist --json",
        "trainer worker --set run.dir=runs/mine -- train.py --epochs 5",
    ),
)
@click.option("--if-complete", is_flag=True, hidden=True)
@optional_config_option
@_options
@click.argument("script", nargs=-1, type=click.UNPROCESSED, metavar="[SCRIPT [ARGS]...]")
def worker(**options: Any) -> None:
    """The training process alone, for debugging: ends with 75 after an agreed stop.

    Of the recipe of a configuration, or of a script.
    """
    # An agent asks for the stacks of a worker that hangs; so may a person.
    faulthandler.register(signal.SIGUSR1, file=_STDERR, chain=False)
    raise click.exceptions.Exit(run_worker(Request(**options)))
