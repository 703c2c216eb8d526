"""`trainer recipes`."""

import click

from trainer.cli.options import HELP_NAMES, examples, json_option, print_json


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
        print_json([{"name": r.name, "path": r.path, "about": r.about} for r in found])
        return
    from trainer.cli.tables import print_table
    from trainer.environment import command_name

    start = f"{command_name()} train -c"
    print_table(
        ("NAME", "ABOUT", "START WITH"),
        [(r.name, r.about, f"{start} {r.name}" if r.is_packaged else "") for r in found],
    )
