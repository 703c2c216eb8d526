"""`trainer recipes`."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from trainer.cli.options import HELP_NAMES, examples, json_option, print_json

if TYPE_CHECKING:
    from trainer.recipes.catalog import RecipeEntry


@click.group(
    context_settings=HELP_NAMES,
    epilog=examples("trainer recipes list", "trainer recipes new my_recipe"),
)
def recipes() -> None:
    """List what can be trained, or begin a recipe of your own."""


@recipes.command(
    name="list",
    epilog=examples(
        "trainer recipes list",
        "trainer recipes list --json",
        "trainer config schema --recipe fashion_mnist",
    ),
)
@json_option
def list_(as_json: bool) -> None:
    """The recipes in the package, and those that installed packages plug in."""
    from trainer.recipes.catalog import list_recipes

    found = list_recipes()
    if as_json:
        print_json([_as_json(entry) for entry in found])
        return
    from trainer.cli.tables import print_table
    from trainer.environment import command_name

    start = f"{command_name()} train -c"
    print_table(
        ("NAME", "ABOUT", "START WITH"),
        [(r.name, r.about, f"{start} {r.name}" if r.has_config else "") for r in found],
    )


def _as_json(entry: "RecipeEntry") -> dict[str, Any]:
    """Of what is not packaged the name alone: a list imports nobody's module."""
    from trainer.recipes.catalog import recipe_facts

    found: dict[str, Any] = {"name": entry.name, "path": entry.path, "about": entry.about}
    if not entry.is_packaged:
        return found
    facts = recipe_facts(entry.name)
    params = [
        {"name": p.name, "type": p.type, "default": p.default, "kind": p.kind, "help": p.help}
        for p in facts.params
    ]
    return found | {
        "data": facts.data, "cost": facts.cost, "expected": facts.expected, "params": params
    }  # fmt: skip


@recipes.command(
    epilog=examples(
        "trainer recipes new my_recipe",
        "trainer recipes new my_recipe --dir recipes/my-recipe",
    )
)
@click.argument("name")
@click.option(
    "--dir", "folder", type=click.Path(path_type=Path), metavar="DIR",
    help="Where to write it, a new or an empty folder; by default ./NAME.",
)  # fmt: skip
def new(name: str, folder: Path | None) -> None:
    """Write a package with a recipe of your own, which trains as it is.

    NAME becomes the name of the recipe and of its Python package. What is in it is there to be
    replaced by yours: parameters, data, a model with a class of its own, the configuration of a
    whole run, a test, a Dockerfile. docs/recipes.md says what a recipe has to keep to.
    """
    from trainer.environment import command_name
    from trainer.recipes.new import write_package

    folder = folder or Path(name)
    for path in write_package(name, folder):
        click.echo(f"wrote {path}")
    trainer = command_name()
    python = "python".join(trainer.rsplit("trainer", 1))  # the one that has the trainer
    with_test = shlex.quote(f"{folder}[test]")
    click.echo("\nNext:")
    click.echo(f"  {python} -m pip install -e {with_test}")
    click.echo(f"  {trainer} train -c {name}")
    click.echo(f"  {python} -m pytest {shlex.quote(str(folder))}")
