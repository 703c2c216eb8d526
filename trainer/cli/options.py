"""Options and arguments that several commands share."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from trainer import strict_json

AS_JSON = "trainer.as_json"  # in the context's meta
HELP_NAMES = {"help_option_names": ["-h", "--help"]}


def note_json(ctx: click.Context, _param: click.Parameter, value: bool) -> bool:
    """Tell who catches errors in which form to print them."""
    ctx.meta[AS_JSON] = value
    return value


def follow_parents(_ctx: click.Context, _param: click.Parameter, value: str | None) -> str | None:
    """A path without '..', which a configuration must not hold, but whoever types it means."""
    if value is None or value.startswith("//") or ":" in value.partition("/")[0]:
        return value
    return os.path.realpath(value) if ".." in value.split("/") else value


config_option = click.option(
    "-c", "--config", "config_name", required=True, metavar="NAME|FILE",
    help="A recipe by name, or a YAML file.",
)  # fmt: skip
optional_config_option = click.option(
    "-c", "--config", "config_name", metavar="NAME|FILE",
    help="A recipe by name, or a YAML file; for a script a YAML file, if it needs one.",
)  # fmt: skip
set_option = click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE",
    help="Set one key of the configuration, as in train.epochs=10; repeatable.",
)  # fmt: skip
json_option = click.option(
    "--json", "as_json", is_flag=True, is_eager=True, callback=note_json,
    help="Print JSON for machines; an error is JSON, too.",
)  # fmt: skip
run_argument = click.argument("run_dir", metavar="RUN_DIR", callback=follow_parents)
checkpoint_option = click.option(
    "--checkpoint", "which", metavar="STEP|last|best",
    help="Which checkpoint; by default what the run's export.weights says.",
)  # fmt: skip


def examples(*lines: str) -> str:
    r"""An epilog that click does not wrap (that is what \b says)."""
    return "\n".join(["\b", "Examples:", *(f"  {line}" for line in lines)])


def apply_options(*options: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Options in the order in which the help shows them."""

    def decorate(command: Any) -> Any:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def print_json(tree: Any, *, indent: int | None = 2) -> None:
    """One JSON document on standard output; a number that is not finite becomes null."""
    click.echo(strict_json.dumps(tree, indent=indent))


def load_plain(name: str | None, overrides: Sequence[str], script: Sequence[str] = ()) -> Any:
    """The configuration of a command line, without anybody's code; a script's may have no file."""
    if script:
        from trainer.script.config import Script, load_script_config

        path = Path(script[0])
        Script(path).read()
        return load_script_config(name, overrides, name=path.stem)
    if name is None:
        raise click.UsageError("Missing option '-c' / '--config', or a script.")
    from trainer.recipes.catalog import load_plain

    return load_plain(name, overrides)
