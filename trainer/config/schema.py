"""The configuration described for editors, for the chart and for the docs."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from trainer.config.fields import Kind, Section, field_kinds, section_of
from trainer.config.models import RunConfig


@dataclass(frozen=True)
class Key:
    """One key: `type` and `default` as JSON; a section's are empty."""

    name: str
    type: str
    default: Any
    is_required: bool
    kind: Kind | None
    help: str


def json_schema(params: type[Section] | None = None) -> dict[str, Any]:
    """The JSON schema of `RunConfig`; with `params`, those of one recipe in the place of any."""
    schema = RunConfig.model_json_schema()
    if params is not None:
        theirs = params.model_json_schema(ref_template="#/$defs/{model}")
        schema["$defs"] |= theirs.pop("$defs", {})
        schema["$defs"][params.__name__] = theirs
        schema["properties"]["params"] = {"$ref": f"#/$defs/{params.__name__}"}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def keys(model: type[BaseModel], prefix: str = "") -> Iterator[Key]:
    """Every key of a model in declared order, sections before their keys."""
    kinds = field_kinds(model)
    properties = model.model_json_schema()["properties"]
    for name, field in model.model_fields.items():
        section = section_of(field.annotation)
        default = field.get_default(call_default_factory=True)
        is_plain = section is not None and field.annotation is section
        yield Key(
            prefix + name,
            "section" if is_plain else _type(properties[name]),
            None if default is PydanticUndefined or is_plain else default,
            is_required=field.is_required(),
            kind=kinds.get(name),
            help=field.description or (section.__doc__ or "" if section else ""),
        )
        if section is not None:
            marker = "" if is_plain or "array" not in str(properties[name]) else "[]"
            yield from keys(section, f"{prefix}{name}{marker}.")


def _type(schema: dict[str, Any]) -> str:
    """A JSON schema's type in a few words."""
    if "anyOf" in schema:
        return " or ".join(_type(option) for option in schema["anyOf"])
    if "enum" in schema or "const" in schema:
        return " or ".join(f"`{value}`" for value in schema.get("enum", [schema.get("const")]))
    if "$ref" in schema:
        return "section"
    if schema.get("type") == "array" and "enum" in schema.get("items", {}):
        return f"list of {_type(schema['items'])}"
    names = {"array": "list", "object": "mapping", "string": "text", "null": "`null`"}
    found = str(schema.get("type", "any"))
    return names.get(found, found) + _bounds(schema)


def _bounds(schema: dict[str, Any]) -> str:
    words = {
        "minimum": "≥ {}", "exclusiveMinimum": "> {}", "maximum": "≤ {}",
        "exclusiveMaximum": "< {}", "maxProperties": "at most {} entries",
    }  # fmt: skip
    found = [text.format(schema[key]) for key, text in words.items() if key in schema]
    return f" {', '.join(found)}" if found else ""
