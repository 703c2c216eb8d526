"""`trainer config`: nothing here trains, writes, or loads TensorFlow."""

from typing import Any

import click

from trainer.cli.options import (
    HELP_NAMES,
    apply_options,
    config_option,
    examples,
    json_option,
    print_json,
    set_option,
)


@click.group(
    context_settings=HELP_NAMES,
    epilog=examples(
        "trainer config check -c run.yaml",
        "trainer config show -c fashion_mnist --set train.epochs=20",
    ),
)
def config() -> None:
    """Show, check and describe configurations."""


@config.command(
    epilog=examples(
        "trainer config show -c fashion_mnist",
        "trainer config show -c run.yaml --set train.epochs=20 > resolved.yaml",
    )
)
@apply_options(config_option, set_option, json_option)
def show(config_name: str, overrides: tuple[str, ...], as_json: bool) -> None:
    """The resolved configuration: every key with its value, defaults filled in."""
    from trainer.config import dump
    from trainer.recipes.catalog import load_run

    resolved, _, _ = load_run(config_name, overrides)
    if as_json:
        print_json(resolved.model_dump(mode="json"))
    else:
        click.echo(dump(resolved), nl=False)


@config.command(
    epilog=examples(
        "trainer config check -c run.yaml",
        "trainer config check -c run.yaml --data      # its data set is there, too",
    )
)
@apply_options(
    config_option,
    set_option,
    click.option("--data", "with_data", is_flag=True, help="Look for the data set and its splits."),
    json_option,
)
def check(config_name: str, overrides: tuple[str, ...], with_data: bool, as_json: bool) -> None:
    """Say ok, or name every wrong key (exit code 2; 3 for data that is missing).

    The parameters are checked by the recipe, which is imported for it.
    """
    from trainer.recipes.catalog import load_run

    resolved, _, _ = load_run(config_name, overrides)
    if with_data:
        from trainer.preflight import check_data

        check_data(resolved)
    if as_json:
        print_json({"ok": True, "recipe": resolved.recipe, "run": resolved.run_name})
    else:
        click.echo(f"ok: recipe {resolved.recipe}, run {resolved.run_name}")


@config.command(
    epilog=examples(
        "trainer config schema > run.schema.json",
        "trainer config schema --recipe fashion_mnist",
    )
)
@click.option("--recipe", metavar="NAME", help="Describe this recipe's parameters, too.")
def schema(recipe: str | None) -> None:
    """The JSON schema of configuration files, for editors and validators."""
    print_json(_schema(recipe))


def _schema(recipe: str | None) -> dict[str, Any]:
    from trainer.config.schema import json_schema

    if recipe is None:
        return json_schema()
    from trainer.recipes.catalog import find_recipe

    return json_schema(find_recipe(recipe).params)
