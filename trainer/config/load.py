"""From files and `--set` to one checked `RunConfig`, or to a clear refusal."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from trainer.config.credentials import check_tree
from trainer.config.fields import Section, field_kinds, flatten, kind_of
from trainer.config.messages import explain, shown_value
from trainer.config.models import RunConfig
from trainer.config.yaml_text import dump_yaml, parse_yaml, shown_key
from trainer.errors import CheckpointError, ConfigError

MAX_CONFIG_BYTES = 1 << 20

ModelT = TypeVar("ModelT", bound=BaseModel)


def read_tree(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file of at most 1 MiB."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_CONFIG_BYTES + 1)
        text = data.decode()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise ConfigError(f"cannot read config {path}: {reason}") from None
    if len(data) > MAX_CONFIG_BYTES:
        raise ConfigError(f"{path} is larger than {MAX_CONFIG_BYTES} bytes: not a config file")
    tree = parse_yaml(text, str(path))
    if not isinstance(tree, dict):
        raise ConfigError(f"{path} must hold a mapping, as in 'train: {{epochs: 5}}'")
    return tree


def apply_overrides(tree: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """A copy of `tree` with each `a.b=VALUE` set; VALUE is read as YAML.

    `callbacks.0.args.patience=3` reaches into a list. Raises ConfigError.
    """
    result = _copy(tree)
    for override in overrides:
        key, equals, text = override.partition("=")
        parts = key.split(".")
        if not equals or not all(parts) or shown_key(key) != key:
            # Not shown: without a key, it may be anything.
            raise ConfigError("--set needs KEY=VALUE, as in --set train.epochs=10")
        _set(result, parts, parse_yaml(text, f"--set {key}"))
    return result


def _set(tree: dict[str, Any], parts: list[str], value: Any) -> None:
    node: Any = tree
    for depth, part in enumerate(parts[:-1]):
        below = node[_place(node, part, parts[:depth])] if _holds(node, part) else None
        if below is None:
            below = {}
            node[_place(node, part, parts[:depth])] = below
        node = below
    node[_place(node, parts[-1], parts[:-1])] = value


def _holds(node: Any, part: str) -> bool:
    return not isinstance(node, dict) or part in node


def _place(node: Any, part: str, above: list[str]) -> Any:
    """The key or the index in `node` that `part` means."""
    if isinstance(node, dict):
        return part
    if isinstance(node, list) and part.isascii() and part.isdigit() and int(part) < len(node):
        return int(part)
    what = f"a list of {len(node)}" if isinstance(node, list) else "no section"
    raise ConfigError(f"--set {'.'.join([*above, part])}: {'.'.join(above)} is {what}")


def _copy(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {key: _copy(value) for key, value in tree.items()}
    return [_copy(value) for value in tree] if isinstance(tree, list) else tree


def validate(
    model: type[ModelT], tree: Mapping[str, Any], *, source: str, prefix: str = ""
) -> ModelT:
    """`tree` as a `model`; ConfigError lists every wrong key with its dotted path."""
    try:
        return model.model_validate(tree)
    except ValidationError as error:
        lines = explain(error, model, tree, prefix)
    # Outside of the handler: pydantic's error holds the values.
    raise ConfigError("\n  ".join([f"{source}:", *lines]) if lines[1:] else f"{source}: {lines[0]}")


def load_config(
    path: Path, overrides: Sequence[str] = (), *, source: str | None = None
) -> RunConfig:
    """The checked config in a file, with overrides; the recipe's `params` are not yet checked.

    `source` names it in errors, by default its path. Raises ConfigError.
    """
    source = source or str(path)
    tree = apply_overrides(read_tree(path), overrides)
    check_tree(tree, source)
    return validate(RunConfig, tree, source=source)


def dump(config: RunConfig) -> str:
    """The resolved config as YAML, every key present, in declared order."""
    return dump_yaml(config.model_dump(mode="json"))


def check_same_run(
    old: RunConfig, new: RunConfig, params: type[Section], allowed: Sequence[str] = ()
) -> dict[str, tuple[Any, Any]]:
    """Changed keys of a run that goes on, as {key: (old, new)}.

    Raises CheckpointError (a diff and the ways out) when an identity field differs, or a
    changeable one that is not in `allowed`; ConfigError when `allowed` names another key.
    """
    if old.recipe != new.recipe:
        raise CheckpointError(
            f"run {new.run.dir} is of another recipe, {shown_value(old.recipe)}, not "
            f"{shown_value(new.recipe)}: set run.dir to another folder"
        )
    kinds = field_kinds(RunConfig) | field_kinds(params, "params.")
    before, after = (flatten(c.model_dump(mode="json")) for c in (old, new))
    changed = {
        key: (before.get(key), after.get(key))
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key) and kind_of(key, kinds) != "free"
    }
    unknown = [key for key in allowed if kinds.get(key) != "changeable"]
    if unknown:
        can = ", ".join(sorted(key for key, kind in kinds.items() if kind == "changeable"))
        raise ConfigError(f"--allow-change {shown_key(unknown[0])}: only these may change: {can}")
    refused = {key: values for key, values in changed.items() if key not in allowed}
    if refused:
        is_allowable = all(kind_of(key, kinds) == "changeable" for key in refused)
        raise CheckpointError(_refusal(new.run.dir, refused, is_allowable=is_allowable))
    return changed


def _shown(value: Any) -> str:
    """A value, or of a list of callbacks their names: arguments may be anything."""
    is_named = isinstance(value, list) and all(isinstance(one, dict) for one in value)
    return (
        f"[{', '.join(str(one.get('name')) for one in value)}]" if is_named else shown_value(value)
    )


def _refusal(run_dir: str, refused: dict[str, tuple[Any, Any]], *, is_allowable: bool) -> str:
    lines = [f"run {run_dir} was started with another configuration:"]
    lines += [f"  {key}: {_shown(old)} -> {_shown(new)}" for key, (old, new) in refused.items()]
    if is_allowable:
        flags = " ".join(f"--allow-change {key}" for key in refused)
        lines.append(f"to go on with the change: {flags}")
    lines.append(
        "to keep this run as it is: another run.dir, or train.start_from="
        f"{run_dir} with another run.dir to start from its weights"
    )
    if not is_allowable and any(key.startswith("params.") for key in refused):
        lines.append(
            "where its layers are others, train.start_layers=shared beside it takes those of both"
        )
    return "\n".join(lines)
