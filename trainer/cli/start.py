"""What `trainer train`, `run` and `worker` do: an agent over its workers, or one worker."""

import asyncio
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
from trainer.cli.options import AS_JSON, load_plain, print_json
from trainer.cli.output import drop_output
from trainer.environment import SPARE_VARIABLE
from trainer.errors import TrainerError
from trainer.stop import StopRequest
from trainer.storage import open_storage

if TYPE_CHECKING:
    from trainer.script.config import Script


@dataclass(frozen=True)
class Request:
    """The options of a command, as they were given."""

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


def supervise(request: Request, workers: int | None) -> int:
    """Keep one worker training, or several; or only check. Returns the exit code."""
    if request.dry_run:
        return run_worker(request)
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


def _supervisor_of(config: Any, request: Request, log: Any) -> Any:
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


def _local_group(config: Any, workers: int, request: Request, log: Any) -> Any:
    from trainer.agent.local_group import LocalGroup, check_local

    check_local(config, workers)
    command = "run" if request.script else "train"
    return LocalGroup(config, workers, _arguments(command, request), log=log)


def _arguments(command: str, request: Request) -> list[str]:
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


def run_worker(request: Request) -> int:
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
        code = _train(request, stop, link)
        if link is not None and code == 0:
            link.complete()
        return code
    except Exception as error:
        if link is not None:
            is_ours = isinstance(error, TrainerError)
            link.failed(str(error) if is_ours else f"{type(error).__name__}: {error}")
        raise


def _warm_up(request: Request) -> None:
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


def _train(request: Request, stop: StopRequest, link: Any) -> int:
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


def _show(config: Any, outcome: Any, request: Request) -> None:
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
