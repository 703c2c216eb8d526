"""`trainer recipes`."""

from typing import TYPE_CHECKING, Any

import click

from trainer.cli.options import HELP_NAMES, examples, json_option, print_json

if TYPE_CHECKING:
    from trainer.recipes.catalog import RecipeEntry


@click.group(context_settings=HELP_NAMES, epilog=examples("trainer recipes list"))
def recipes() -> None:
    """List what can be trained."""


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
        [(r.name, r.about, f"{start} {r.name}" if r.is_packaged else "") for r in found],
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
