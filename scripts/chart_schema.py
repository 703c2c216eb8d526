"""What the chart knows of the trainer's configuration: its schema and its defaults."""

import json
from pathlib import Path
from typing import Any

import yaml

from trainer.config.models import RunConfig
from trainer.config.schema import json_schema, keys
from trainer.recipes.catalog import RECIPES, find_recipe
from trainer.script.config import OF_FIT

CHART = Path(__file__).parents[1] / "helm" / "trainer"


def values_schema() -> dict[str, Any]:
    """The chart's own schema, closed, with the trainer's inside of it."""
    schema: dict[str, Any] = yaml.safe_load((CHART / "values.schema.yaml").read_text())
    config = json_schema()
    del config["$schema"]
    schema["$defs"] |= config.pop("$defs")
    schema["$defs"]["RunConfig"] = config
    config["allOf"] = [_params_of(name, schema["$defs"]) for name in RECIPES]
    schema["$defs"]["OfRecipe"] = _take_required(config, schema["$defs"])
    return schema


def _take_required(config: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """What only a recipe's run has to say, as a schema of its own: a script has data and epochs."""
    sections = {
        name: {"required": definitions[part["$ref"].rpartition("/")[2]].pop("required")}
        for name, part in config["properties"].items()
        if name in config["required"] and "$ref" in part
    }
    return {"required": config.pop("required"), "properties": sections}


def _params_of(name: str, definitions: dict[str, Any]) -> dict[str, Any]:
    """Of a recipe of the package, its parameters; what others have, only their pods know."""
    found = json_schema(find_recipe(name).params)
    definitions |= found["$defs"]
    return {
        "if": {"properties": {"recipe": {"const": name}}, "required": ["recipe"]},
        "then": {"properties": {"params": found["properties"]["params"]}},
    }


def config_defaults() -> dict[str, Any]:
    """Defaults of all keys that have one, by section."""
    defaults: dict[str, Any] = {}
    for key in keys(RunConfig):
        section, _, name = key.name.partition(".")
        if name and "." not in name and "[" not in section and not key.is_required:
            defaults.setdefault(section, {})[name] = key.default
    return defaults


def documents() -> dict[Path, str]:
    """Every generated file of the chart and what it should hold."""
    return {
        CHART / "values.schema.json": _json(values_schema()),
        CHART / "files" / "config-defaults.json": _json(config_defaults()),
        CHART / "files" / "script-keys.json": _json(OF_FIT),
    }


def _json(tree: Any) -> str:
    return json.dumps(tree, indent=2) + "\n"
