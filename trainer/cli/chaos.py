"""`trainer chaos`."""

import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from trainer.cli.options import (
    AS_JSON,
    HELP_NAMES,
    apply_options,
    examples,
    json_option,
    load_plain,
    optional_config_option,
    print_json,
    set_option,
)

_COUNT = click.IntRange(0, 10_000)


@click.command(
    # What follows the script is its own.
    context_settings={**HELP_NAMES, "allow_interspersed_args": False},
    epilog=examples(
        "trainer chaos -c fashion_mnist --workers 2",
        "trainer chaos -c run.yaml --workers 3 --kills 50 --stops 0 --freezes 0 --seed 7",
        "trainer chaos -c run.yaml --set train.epochs=20 --set run.dir=runs/tried --keep",
        "trainer chaos --kills 5 --set checkpoint.every_steps=40 train.py --epochs 5",
    ),
)
@apply_options(
    click.option(
        "--workers", type=click.IntRange(1, 64), default=2, show_default=True, metavar="N",
        help="Train on so many processes of this machine.",
    ),
    click.option("--kills", type=_COUNT, default=20, show_default=True, metavar="N",
                 help="SIGKILLs to workers, agents and the leader, agent 0."),
    click.option("--stops", type=_COUNT, default=4, show_default=True, metavar="N",
                 help="SIGTERMs to agents, as of nodes that are taken away."),
    click.option("--freezes", type=_COUNT, default=4, show_default=True, metavar="N",
                 help="SIGSTOPs to workers and agents, for up to 8 seconds."),
    click.option("--seed", type=int, default=0, show_default=True,
                 help="Chooses targets and moments."),
    click.option("--patience", type=click.FloatRange(1), default=300.0, show_default=True,
                 metavar="SECONDS", help="Give up after so long without a new step."),
    click.option("--keep", is_flag=True, help="Keep both runs and the logs, also of a success."),
    optional_config_option, set_option, json_option,
    click.argument("script", nargs=-1, type=click.UNPROCESSED, metavar="[SCRIPT [ARGS]...]"),
)  # fmt: skip
def chaos(
    config_name: str | None, overrides: tuple[str, ...], as_json: bool, script: tuple[str, ...],
    **options: Any,
) -> None:  # fmt: skip
    """Disturb a training on this machine, and see whether its result is the same.

    Of the recipe of a configuration, or of a script as `trainer run` takes it.

    Trains twice, beside run.dir: undisturbed, and while processes are killed, stopped and frozen
    at random moments and agents are started again, as by a cluster. Tells of every fault, and how
    long it took to recover. docs/chaos.md explains the numbers.

    Ends with 0 when all faults happened and weights, optimizer and history are equal, with 1 when
    not or when there was no new step for --patience, and with a run's own code when it failed.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _leave)
    from trainer.log import configure_logging, get_log, is_for_machines

    context = click.get_current_context()
    own = ["log.format=json"] if as_json else []
    config = load_plain(config_name, [*overrides, *own], script)
    for_machines = is_for_machines(config.log)
    context.meta[AS_JSON] = is_for_machines(config.log, sys.stderr)
    configure_logging(as_json=for_machines)
    is_debug = context.find_root().params["debug"]
    arguments = [
        *(["--debug"] if is_debug else []), "run" if script else "train",
        *([f"--config={config_name}"] if config_name is not None else []),
        *(f"--set={override}" for override in overrides),
    ]  # fmt: skip
    trial = _trial(config, arguments, script, options, get_log())
    try:
        result = trial.run()
    except click.exceptions.Exit:
        left = ", ".join([*trial.runs, str(trial.folder)])
        click.echo(f"interrupted; left as they are: {left}", err=True)
        raise
    if for_machines:
        print_json({"event": "chaos", **result.to_json()}, indent=None)
    else:
        show(result.to_json())
    if result.problems or options["keep"]:
        click.echo(f"kept: {', '.join(trial.runs)}, {trial.folder}", err=True)
    else:
        trial.remove()
    context.exit(1 if result.problems else 0)


def _trial(
    config: Any, arguments: list[str], script: tuple[str, ...], options: dict[str, Any], log: Any
) -> Any:
    from trainer.agent.local_group import check_local
    from trainer.chaos.agents import start_agent
    from trainer.chaos.faults import Amount
    from trainer.chaos.trial import Trial, check_trial
    from trainer.cli.start import Surroundings
    from trainer.errors import ConfigError

    workers = options["workers"]
    check_local(config, workers)
    check_trial(config)
    amount = Amount(options["kills"], options["stops"], options["freezes"])
    if amount.total == 0:
        raise ConfigError("no fault was asked for: use --kills, --stops or --freezes")
    surroundings = click.get_current_context().obj or Surroundings()
    return Trial(
        config, workers, amount, seed=options["seed"], arguments=arguments,
        folder=Path(tempfile.mkdtemp(prefix="trainer-chaos-")), patience=options["patience"],
        start=surroundings.start_agent or start_agent, log=log, script=script,
    )  # fmt: skip


def show(found: dict[str, Any]) -> None:
    """Print a result's `to_json()` for people."""
    from trainer.chaos.result import MOMENTS
    from trainer.cli.tables import print_facts, print_table

    columns = ["fault", ">count", ">recovered"]
    columns += [f">{name.replace('_', ' ')} s" for name in MOMENTS]
    rows = (
        (kind, str(row["count"]), str(row["recovered"]), *(span(row[name]) for name in MOMENTS))
        for kind, row in found["recovery"].items()
    )
    print()
    print_table(columns, rows)
    print("seconds after the signal: p50 / p95 / worst\n")
    print_facts(facts(found))


def facts(found: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """(name, value) of all that is told of a result beside the table of its faults."""
    each = span(found["redone_steps_per_generation"])
    yield "steps", f"{found['steps']}, lost {found['lost_steps']}"
    yield "redone", f"{found['redone_steps']} in {found['generations']} starts, {each} in one"
    for name in ("", "undisturbed_"):
        seconds, share = found[f"{name}seconds"], found[f"{name}productive"]
        yield f"{name}productive".replace("_", ", "), f"{share:.1%} of {seconds} s"
    spent = (f"{cause} {value}" for cause, value in found["goodput"].items() if value)
    yield "seconds by cause", ", ".join(spent)
    yield "sha256", found["sha256"][:16]
    yield "undisturbed", found["undisturbed_sha256"][:16]
    yield "result", "equal to the undisturbed run's" if found["equal"] else "NOT EQUAL"
    for problem in found["problems"]:
        yield "problem", problem


def span(found: dict[str, float]) -> str:
    """Percentiles in a row."""
    return " / ".join(f"{value:g}" for value in found.values()) or "-"


def _leave(number: int, _frame: object) -> None:
    raise click.exceptions.Exit(128 + number)
