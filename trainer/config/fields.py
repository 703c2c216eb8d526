"""How a configuration field may differ between two starts of the same run.

*identity*: part of what the run is; another value means another result, so a start with
another value is refused. *changeable*: may change when the user says so by name, and the
change is recorded. *free*: may change at any time, because the result does not depend on it.
"""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Kind = Literal["identity", "changeable", "free"]
KIND_KEY = "x-trainer-kind"


class Section(BaseModel):
    """A frozen, closed, strictly typed part of the configuration."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


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
    return Field(default, description=help, json_schema_extra={KIND_KEY: kind}, **constraints)


def field_kinds(model: type[BaseModel], prefix: str = "") -> dict[str, Kind]:
    """Dotted key -> kind of every leaf field of a model and its sections."""
    kinds: dict[str, Kind] = {}
    for name, field in model.model_fields.items():
        section = field.annotation
        if isinstance(section, type) and issubclass(section, Section):
            kinds |= field_kinds(section, f"{prefix}{name}.")
        elif isinstance(field.json_schema_extra, dict):
            kinds[prefix + name] = field.json_schema_extra[KIND_KEY]  # type: ignore[assignment]
    return kinds


def flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings -> {dotted key: leaf}; an empty mapping has no leaves."""
    leaves: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            leaves |= flatten(value, f"{prefix}{key}.")
        else:
            leaves[prefix + key] = value
    return leaves
