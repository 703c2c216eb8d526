"""The recipes by name, and a configuration together with its recipe."""

from collections.abc import Sequence
from importlib.metadata import entry_points
from pathlib import Path

from trainer.config import RunConfig, load_config, validate
from trainer.errors import ConfigError
from trainer.plugins import is_path, load_object
from trainer.recipes.base import Params, Recipe

# name -> (import path, one line)
RECIPES = {
    "fashion_mnist": (
        "trainer.recipes.fashion_mnist:recipe",
        "Fashion-MNIST images, a small convnet",
    ),
}
ENTRY_POINTS = "trainer.recipes"


def find_recipe(name: str) -> Recipe:
    """The recipe of that name, from an import path, or plugged in by an entry point."""
    if is_path(name):
        path = name
    elif name in RECIPES:
        path = RECIPES[name][0]
    else:
        plugged = {entry.name: entry.value for entry in entry_points(group=ENTRY_POINTS)}
        if name not in plugged:
            known = ", ".join(sorted({*RECIPES, *plugged}))
            raise ConfigError(
                f"unknown recipe '{name}': use one of {known}, or package.module:recipe"
            )
        path = plugged[name]
    recipe = load_object(path, key="recipe")
    if not isinstance(recipe, Recipe):
        raise ConfigError(f"recipe: {path} is a {type(recipe).__name__}, not a Recipe")
    return recipe


def config_path(name: str) -> Path:
    """The file behind `-c`: a packaged recipe's by name, else the path itself."""
    packaged = Path(__file__).with_name(f"{name}.yaml")
    if name in RECIPES and packaged.is_file():
        return packaged
    path = Path(name)
    if not path.is_file():
        raise ConfigError(
            f"no config {name!r}: give a file, or a recipe's name ({', '.join(RECIPES)})"
        )
    return path


def load_run(name: str, overrides: Sequence[str] = ()) -> tuple[RunConfig, Recipe, Params]:
    """Config, recipe and its checked parameters; every default is filled in."""
    path = config_path(name)
    return with_recipe(load_config(path, overrides), source=str(path))


def with_recipe(config: RunConfig, *, source: str) -> tuple[RunConfig, Recipe, Params]:
    """The config with its recipe's parameters checked and complete."""
    recipe = find_recipe(config.recipe)
    params = validate(recipe.params, config.params, source=source, prefix="params.")
    complete = config.model_copy(update={"params": params.model_dump(mode="json")})
    return complete, recipe, params
