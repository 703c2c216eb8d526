"""How a configuration field may differ between two starts of the same run.

*identity*: part of what the run is; another value means another result, so a start with
another value is refused. *changeable*: may change when the user says so by name, and the
change is recorded. *free*: may change at any time, because the result does not depend on it
(but for its rounding, where the number of replicas changes).
"""

from collections.abc import Mapping
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

Kind = Literal["identity", "changeable", "free"]
KIND_KEY = "x-trainer-kind"


class Section(BaseModel):
    """A frozen, closed, strictly typed part of the configuration."""

    # Values stay out of pydantic's own messages, which a traceback shows.
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, hide_input_in_errors=True)


def identity(default: Any = ..., *, help: str, **constraints: Any) -> Any:
    """A field that is part of the run's identity."""
    return _field(default, "identity", help, constraints)


def changeable(default: Any = ..., *, help: str, **constraints: Any) -> Any:
    """A field that `--allow-change KEY` may change within a run."""
    return _field(default, "changeable", help, constraints)


def free(default: Any = ..., *, help: str, **constraints: Any) -> Any:
    """A field that any start may set anew."""
    return _field(default, "free", help, constraints)


def _field(default: Any, kind: Kind, help: str, constraints: dict[str, Any]) -> Any:
    # What a validator refuses, the schema is told in its own words.
    extra = {KIND_KEY: kind, **constraints.pop("json_schema", {})}
    return Field(default, description=help, json_schema_extra=extra, **constraints)


def field_kinds(model: type[BaseModel], prefix: str = "") -> dict[str, Kind]:
    """Dotted key -> kind of every leaf field of a model and its sections.

    A field that a user declared plainly counts as identity: the safe side.
    """
    kinds: dict[str, Kind] = {}
    for name, field in model.model_fields.items():
        section = field.annotation
        if isinstance(section, type) and issubclass(section, Section):
            kinds |= field_kinds(section, f"{prefix}{name}.")
        else:
            extra = field.json_schema_extra
            kinds[prefix + name] = extra[KIND_KEY] if isinstance(extra, dict) else "identity"  # type: ignore[assignment]
    return kinds


def section_of(annotation: Any) -> type[BaseModel] | None:
    """The section that a field holds: itself, or null, or a list of them."""
    for candidate in (annotation, *get_args(annotation)):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return candidate
    return None


def kind_of(key: str, kinds: Mapping[str, Kind]) -> Kind:
    """The kind of a leaf, which may lie inside of a declared field that holds a mapping."""
    while key not in kinds:
        key, dot, _ = key.rpartition(".")
        if not dot:
            return "identity"
    return kinds[key]


def flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings -> {dotted key: leaf}; an empty mapping has no leaves."""
    leaves: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            leaves |= flatten(value, f"{prefix}{key}.")
        else:
            leaves[prefix + key] = value
    return leaves
