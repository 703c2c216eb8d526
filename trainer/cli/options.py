"""Options that several commands share, and how a command ends."""

import json
import os
import sys
from typing import Any, NoReturn

import click

config_option = click.option(
    "-c", "--config", "config_name", required=True, metavar="NAME|FILE",
    help="A packaged recipe by name, or a YAML file.",
)  # fmt: skip
set_option = click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE",
    help="Set one key of the configuration, as in train.epochs=10; repeatable.",
)  # fmt: skip
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for machines.")


def print_json(tree: Any) -> None:
    """One JSON document on standard output."""
    click.echo(json.dumps(tree, indent=2))


def leave(code: int) -> NoReturn:
    """End the process now: threads of a stalled save or of TensorFlow must not keep it."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
