"""`trainer train` and `trainer worker`."""

import asyncio
import faulthandler
import os
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from trainer.agent.orphans import reap_orphans
from trainer.agent.process import Spawn, spawn_worker
from trainer.cli.options import (
    AS_JSON,
    HELP_NAMES,
    apply_options,
    config_option,
    examples,
    json_option,
    load_plain,
    optional_config_option,
    print_json,
    set_option,
)
from trainer.cli.output import drop_output
from trainer.cluster import MOST_WORKERS
from trainer.environment import SPARE_VARIABLE
from trainer.errors import TrainerError
from trainer.stop import StopRequest
from trainer.storage import open_storage

if TYPE_CHECKING:
    from trainer.script.config import Script

_STDERR = 2


@dataclass(frozen=True)
class _Request:
    """The options, as they were given."""

    config_name: str | None
    overrides: Sequence[str]
    allow_change: Sequence[str]
    dry_run: bool
    as_json: bool
    if_complete: bool = False
    script: Sequence[str] = ()  # in place of a recipe: its file and its arguments

    @property
    def all_overrides(self) -> tuple[str, ...]:
        """Those given, and what --json means."""
        return (*self.overrides, *(["log.format=json"] if self.as_json else []))

    def as_script(self) -> "Script | None":
        """The script that says what is trained, if one does."""
        from trainer.script.config import Script

        return Script(Path(self.script[0]), tuple(self.script[1:])) if self.script else None

    def load_plain(self) -> Any:
        """The configuration, without anybody's code."""
        return load_plain(self.config_name, self.all_overrides, self.script)

    def load(self) -> tuple[Any, Any, Any]:
        """Configuration, recipe and parameters."""
        from trainer.recipes.catalog import load_run, with_recipe

        if self.script or self.config_name is None:
            return with_recipe(self.load_plain(), source="--set")
        return load_run(self.config_name, self.all_overrides)


@dataclass(frozen=True)
class Surroundings:
    """What tests replace, as the context's object: by storage that fails, and quick starts."""

    open_storage: Callable[..., Any] = open_storage
    spawn: Spawn = spawn_worker
    start_agent: Callable[..., int] | None = None  # by `trainer chaos`


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
    request = _Request(**options)
    raise click.exceptions.Exit(_run(request) if request.dry_run else _supervise(request, workers))


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
    request = _Request(**options)
    raise click.exceptions.Exit(_run(request) if request.dry_run else _supervise(request, workers))


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
    raise click.exceptions.Exit(_run(_Request(**options)))


def _supervise(request: _Request, workers: int | None) -> int:
    """Keep one worker training, or several; returns the exit code."""
    StopRequest().install()
    reap_orphans()
    from trainer.backend import check_backend
    from trainer.log import configure_logging, get_log, is_for_machines

    context = click.get_current_context()
    context.meta[AS_JSON] = request.as_json or not sys.stderr.isatty()
    config = request.load_plain()
    context.meta[AS_JSON] = is_for_machines(config.log, sys.stderr)
    configure_logging(as_json=is_for_machines(config.log))
    check_backend(config, num_workers=workers)
    if workers is None or workers == 1:
        supervisor = _supervisor_of(config, request, get_log())
    else:
        supervisor = _local_group(config, workers, request, get_log())
    try:
        code = asyncio.run(supervisor.run())
        if code == 128 + signal.SIGINT and not context.meta[AS_JSON]:
            click.echo("stopped; the same command goes on with the run", err=True)
        return code
    finally:
        drop_output()


def _supervisor_of(config: Any, request: _Request, log: Any) -> Any:
    """For one worker, or for one of a group."""
    from trainer.cluster import read_cluster

    context = click.get_current_context()
    surroundings = context.obj or Surroundings()
    arguments = _arguments("worker", request)
    means: dict[str, Any] = {"open_storage": surroundings.open_storage, "spawn": surroundings.spawn}
    cluster = read_cluster(os.environ)
    if cluster.num_workers == 1:
        from trainer.agent.supervisor import Supervisor

        return Supervisor(config, arguments, log=log, **means)
    from trainer.agent.group_place import GroupPlace
    from trainer.agent.group_supervisor import GroupSupervisor

    place = GroupPlace(config, cluster)
    log = log.bind(worker=cluster.worker)
    return GroupSupervisor(config, arguments, log=log, place=place, **means)


def _local_group(config: Any, workers: int, request: _Request, log: Any) -> Any:
    from trainer.agent.local_group import LocalGroup, check_local

    check_local(config, workers)
    command = "run" if request.script else "train"
    return LocalGroup(config, workers, _arguments(command, request), log=log)


def _arguments(command: str, request: _Request) -> list[str]:
    """Those of this command for one of its processes."""
    is_debug = click.get_current_context().find_root().params["debug"]
    return [
        *(["--debug"] if is_debug else []),
        command,
        *([f"--config={request.config_name}"] if request.config_name is not None else []),
        *(f"--set={override}" for override in request.overrides),
        *(f"--allow-change={key}" for key in request.allow_change),
        *(["--json"] if request.as_json else []),
        *(["--", *request.script] if request.script else []),
    ]


def _run(request: _Request) -> int:
    """Train; returns the exit code."""
    # First of all: from here on a signal ends the process with its own exit code.
    stop = StopRequest()
    stop.install()
    from trainer.channel import open_channel
    from trainer.link import Link

    channel = open_channel()
    link = None if channel is None else Link(channel)
    if channel is not None and os.environ.pop(SPARE_VARIABLE, ""):
        _warm_up(request)
        os.environ.update(channel.wait_to_go())
    try:
        return _train(request, stop, link)
    except Exception as error:
        if link is not None:
            is_ours = isinstance(error, TrainerError)
            link.failed(str(error) if is_ours else f"{type(error).__name__}: {error}")
        raise


def _warm_up(request: _Request) -> None:
    """Load what a worker needs; what is wrong with it is found, and told, when it is used."""
    from trainer.log import configure_logging, is_for_machines
    from trainer.tensorflow_start import importing_tensorflow

    with suppress(Exception):
        config = request.load_plain()
        configure_logging(as_json=is_for_machines(config.log))
        with importing_tensorflow():
            for module in ("trainer.launch", "trainer.worker", "trainer.script.run"):
                import_module(module)
        request.load()


def _train(request: _Request, stop: StopRequest, link: Any) -> int:
    from trainer.launch import Launch, launch
    from trainer.log import is_for_machines

    context = click.get_current_context()
    context.meta[AS_JSON] = request.as_json or not sys.stderr.isatty()
    config, recipe, params = request.load()
    context.meta[AS_JSON] = is_for_machines(config.log, sys.stderr)
    surroundings = context.obj or Surroundings()
    start = Launch(
        config, recipe, params, request.allow_change, request.if_complete, request.as_script()
    )
    if request.dry_run:
        _show_plan(start, as_json=request.as_json)
        return 0
    try:
        outcome = launch(start, stop, open_storage=surroundings.open_storage, link=link)
        with suppress(OSError):
            if outcome.summary is not None and is_for_machines(config.log):
                print_json({"event": "summary", **outcome.summary}, indent=None)
            elif outcome.summary is not None:
                _show(config, outcome, request)
        return outcome.exit_code
    finally:
        # A complete run is complete, even when nobody reads it any more.
        drop_output()


def _show(config: Any, outcome: Any, request: _Request) -> None:
    from trainer.cli.summary import show_script_summary, show_summary

    if request.config_name is None or request.script:
        show_script_summary(config.run.dir, outcome.summary, was_complete=outcome.was_complete)
    else:
        show_summary(config, outcome, request.config_name, request.overrides)


def _show_plan(start: Any, *, as_json: bool) -> None:
    from trainer.config import dump
    from trainer.launch import check

    check(start)
    if as_json:
        print_json(start.config.model_dump(mode="json"))
    else:
        click.echo(dump(start.config), nl=False)
