"""The recipes by name, and a configuration together with its recipe."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from trainer.config import RunConfig, load_config, validate
from trainer.config.messages import shown_value
from trainer.config.models.run import SCRIPT
from trainer.config.schema import Key, keys
from trainer.errors import ConfigError
from trainer.plugins import is_path, load_object
from trainer.recipes.base import Params, Recipe
from trainer.recipes.plugged import config_beside, plugged_recipes
from trainer.recipes.script import script_recipe

# name -> (import path, one line)
RECIPES = {
    "fashion_mnist": (
        "trainer.recipes.fashion_mnist:recipe",
        "Fashion-MNIST images, a small convnet",
    ),
    "digits": (
        "trainer.recipes.digits:recipe",
        "8x8 handwritten digits, a dense net, own loss and metric, two outputs",
    ),
    "mnist": (
        "trainer.recipes.mnist:recipe",
        "28x28 handwritten digits, a dense net trained in three styles, early stopping",
    ),
    "tickets": (
        "trainer.recipes.tickets:recipe",
        "Change-log entries as support tickets, three inputs, two outputs, two forms",
    ),
    "beans": (
        "trainer.recipes.beans:recipe",
        "Photos, transfer learning on a MobileNetV2 in three phases and three styles",
    ),
    "cifar10": (
        "trainer.recipes.cifar10:recipe",
        "32x32 colour photos, three blocks of convolution and max-pool, two forms",
    ),
    "image_classifier": (
        "trainer.recipes.image_classifier:recipe",
        "Images of your own in folders, a small convnet",
    ),
    "tabular_classifier": (
        "trainer.recipes.tabular_classifier:recipe",
        "A table of your own, numbers and texts, a dense net",
    ),
}


@dataclass(frozen=True)
class RecipeEntry:
    """One line of `trainer recipes list`; with a configuration, a complete run by its name."""

    name: str
    path: str
    about: str
    is_packaged: bool
    has_config: bool = True


@dataclass(frozen=True)
class RecipeFacts:
    """What a packaged recipe trains on, what that takes and comes to, and its parameters."""

    data: str
    cost: str
    expected: str
    params: list[Key]


def list_recipes() -> list[RecipeEntry]:
    """The recipes of the package, then those that other packages plug in; none is loaded."""
    ours = [RecipeEntry(name, path, about, True) for name, (path, about) in RECIPES.items()]
    plugged = [
        RecipeEntry(
            name, entry.value, f"from {entry.dist.name}" if entry.dist else "", False,
            has_config=config_beside(entry) is not None,
        )
        for name, entry in plugged_recipes().items()
        if name not in RECIPES
    ]  # fmt: skip
    return ours + sorted(plugged, key=lambda entry: entry.name)


def recipe_facts(name: str) -> RecipeFacts:
    """Those of a packaged recipe; cost and expected result stand at the head of its YAML alone."""
    head = dict(re.findall(r"^# (Cost|Expected): (.*)$", config_path(name).read_text(), re.M))
    params = list(keys(find_recipe(name).params))
    return RecipeFacts(load_plain(name).data.url, head["Cost"], head["Expected"], params)


def find_recipe(name: str) -> Recipe:
    """The recipe of that name, from an import path, or plugged in by an entry point."""
    if name == SCRIPT:
        return script_recipe()
    if is_path(name):
        path = name
    elif name in RECIPES:
        path = RECIPES[name][0]
    else:
        plugged = plugged_recipes()
        if name not in plugged:
            known = ", ".join(sorted({*RECIPES, *plugged}))
            near = get_close_matches(name, {*RECIPES, *plugged}, n=1)
            hint = f"did you mean '{near[0]}'?" if near else f"use one of {known}"
            raise ConfigError(
                f"unknown recipe {shown_value(name)}: {hint} (or package.module:recipe)"
            )
        path = plugged[name].value
    recipe = load_object(path, key="recipe")
    if not isinstance(recipe, Recipe):
        raise ConfigError(f"recipe: {path} is a {type(recipe).__name__}, not a Recipe")
    params: Any = recipe.params
    if not (isinstance(params, type) and issubclass(params, Params)):
        raise ConfigError(
            f"recipe: the params of {path} are no subclass of trainer.recipes.base.Params: "
            f"{params!r}"
        )
    return recipe


def config_path(name: str) -> Path:
    """The file behind `-c`: by a recipe's name the one that it brings, else the path itself."""
    if name in RECIPES:
        return Path(__file__).with_name(f"{name}.yaml")
    if Path(name).is_file():
        return Path(name)
    plugged = plugged_recipes()
    if name not in plugged:
        known = [*RECIPES, *plugged]
        if Path(name).exists():
            raise ConfigError(
                f"config {shown_value(name)} is no regular file: each worker reads it"
            )
        near = get_close_matches(name, known, n=1)
        hint = f": did you mean '{near[0]}'?" if near else ""
        raise ConfigError(
            f"no config {shown_value(name)}: give a file, or a recipe's name "
            f"({', '.join(known)}){hint}"
        )
    found = config_beside(plugged[name])
    if found is None:
        value = plugged[name].value
        raise ConfigError(
            f"no config comes with recipe {shown_value(name)} of {value}: give a file that "
            f"names it, as in recipe: {name}"
        )
    return found


def load_run(name: str, overrides: Sequence[str] = ()) -> tuple[RunConfig, Recipe, Params]:
    """Config, recipe and its checked parameters; every default is filled in."""
    return with_recipe(load_plain(name, overrides), source=_source(name, overrides))


def load_plain(name: str, overrides: Sequence[str] = ()) -> RunConfig:
    """Config alone: its recipe, which may be anybody's module, is neither loaded nor asked."""
    return load_config(config_path(name), overrides, source=_source(name, overrides))


def _source(name: str, overrides: Sequence[str]) -> str:
    return f"{name} with --set" if overrides else name


def with_recipe(config: RunConfig, *, source: str) -> tuple[RunConfig, Recipe, Params]:
    """The config with its recipe's parameters checked and complete."""
    recipe = find_recipe(config.recipe)
    params = validate(recipe.params, config.params, source=source, prefix="params.")
    complete = config.model_copy(update={"params": params.model_dump(mode="json")})
    return complete, recipe, params
