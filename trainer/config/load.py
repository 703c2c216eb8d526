"""From files, `--set` and the environment to one checked `RunConfig`, or to a clear refusal."""

import difflib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from trainer.config.fields import Section, field_kinds, flatten
from trainer.config.models import RunConfig
from trainer.errors import CheckpointError, ConfigError

MAX_CONFIG_BYTES = 1 << 20
KNOWN_VARIABLES = {"TRAINER_DEBUG": "print tracebacks", "TRAINER_JOB_ID": "identity of the job"}

ModelT = TypeVar("ModelT", bound=BaseModel)


class _StrictLoader(yaml.SafeLoader):
    """YAML without duplicate keys, which PyYAML would silently merge."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)  # type: ignore[no-untyped-call]
            if not isinstance(key, str):
                raise ConfigError(
                    f"key {key!r} in line {key_node.start_mark.line + 1} is a "
                    f"{type(key).__name__}, not text: write it in quotes"
                )
            if key in seen:
                raise ConfigError(f"key '{key}' appears twice (line {key_node.start_mark.line + 1})")
            seen.add(key)
        return super().construct_mapping(node, deep)


def parse_yaml(text: str, source: str) -> Any:
    """YAML text -> plain data; `source` names it in errors."""
    try:
        return yaml.load(text, _StrictLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" line {mark.line + 1}" if mark else ""
        raise ConfigError(f"{source}{where}: {getattr(error, 'problem', error)}") from error
    except ConfigError as error:
        raise ConfigError(f"{source}: {error}") from error


def read_tree(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file of at most 1 MiB."""
    try:
        if path.stat().st_size > MAX_CONFIG_BYTES:
            raise ConfigError(f"{path} is larger than {MAX_CONFIG_BYTES} bytes: not a config file")
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise ConfigError(f"cannot read config {path}: {reason}") from error
    tree = parse_yaml(text, str(path))
    if not isinstance(tree, dict):
        raise ConfigError(f"{path} must hold a mapping, as in 'train: {{epochs: 5}}'")
    return tree


def apply_overrides(tree: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """A copy of `tree` with each `a.b=VALUE` set; VALUE is read as YAML."""
    result = _copy(tree)
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not all(key.split(".")):
            raise ConfigError(f"--set {override!r} must look like train.epochs=10")
        *parents, leaf = key.split(".")
        section = result
        for parent in parents:
            below = section.get(parent)
            section[parent] = section = below if isinstance(below, dict) else {}
        section[leaf] = parse_yaml(text, f"--set {key}")
    return result


def _copy(tree: Any) -> Any:
    return {k: _copy(v) for k, v in tree.items()} if isinstance(tree, dict) else tree


def validate(model: type[ModelT], tree: Mapping[str, Any], *, source: str, prefix: str = "") -> ModelT:
    """`tree` as a `model`; ConfigError lists every wrong key with its dotted path."""
    try:
        return model.model_validate(tree)
    except ValidationError as error:
        problems = error.errors(include_url=False, include_context=False)
        lines = [_explain(model, problem, prefix) for problem in problems]
        unique = list(dict.fromkeys(lines))
        head = f"{unique[0]} (in {source})" if len(unique) == 1 else f"{source}:"
        more = [] if len(unique) == 1 else [f"  {line}" for line in unique]
        raise ConfigError("\n".join([head, *more])) from error


def _explain(model: type[BaseModel], problem: ErrorDetails, prefix: str) -> str:
    path = [str(part) for part in problem["loc"] if not _is_union_tag(part)]
    key = prefix + ".".join(path)
    if problem["type"] == "extra_forbidden":
        return f"unknown key '{key}'{_did_you_mean(model, path, prefix)}"
    if problem["type"] == "missing":
        return f"'{key}' is missing"
    if problem["type"] == "value_error":
        return f"{key or 'config'}: {problem['msg'].removeprefix('Value error, ')}"
    given = problem["input"]
    # Only plain values are shown: a mapping in the wrong place may hold anything.
    shown = repr(given) if isinstance(given, (int, float, bool)) else type(given).__name__
    if isinstance(given, str):
        shown = repr(given[:60]) if "@" not in given else "text"
    hint = " (YAML reads an unquoted on/off/yes/no as a boolean)" if given in (True, False) else ""
    return f"'{key}' is {shown}: {problem['msg'][0].lower()}{problem['msg'][1:]}{hint}"


def _is_union_tag(part: int | str) -> bool:
    # pydantic adds the tried member of a union to the location, as in ('steps', 'int').
    return isinstance(part, str) and (
        part in {"int", "float", "str", "bool"} or "[" in part or part[:1].isupper()
    )


def _did_you_mean(model: type[BaseModel], path: list[str], prefix: str) -> str:
    known = [prefix + key for key in _all_keys(model)]
    wrong = prefix + ".".join(path)
    siblings = [key for key in known if key.rpartition(".")[0] == wrong.rpartition(".")[0]]
    for candidates in (siblings, known):
        if near := difflib.get_close_matches(wrong, candidates, n=1):
            return f": did you mean '{near[0]}'?"
    leaf = path[-1]
    same_leaf = [key for key in known if key.rpartition(".")[2] == leaf]
    return f": did you mean '{same_leaf[0]}'?" if same_leaf else ""


def _all_keys(model: type[BaseModel], prefix: str = "") -> list[str]:
    keys: list[str] = []
    for name, field in model.model_fields.items():
        keys.append(prefix + name)
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            keys += _all_keys(field.annotation, f"{prefix}{name}.")
    return keys


def load_config(path: Path, overrides: Sequence[str] = ()) -> RunConfig:
    """The checked config in a file, with overrides; the recipe's `params` are not yet checked."""
    tree = apply_overrides(read_tree(path), overrides)
    return validate(RunConfig, tree, source=str(path))


def check_environment(environ: Mapping[str, str] = os.environ) -> None:
    """Refuse a TRAINER_… variable that means nothing: most likely it is misspelt."""
    for name in sorted(environ):
        if name.startswith("TRAINER_") and name not in KNOWN_VARIABLES:
            near = difflib.get_close_matches(name, KNOWN_VARIABLES, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(KNOWN_VARIABLES)}"
            raise ConfigError(f"unknown environment variable {name}: unset it, or {hint}")


def dump(config: RunConfig) -> str:
    """The resolved config as YAML, every key present, in declared order."""
    tree = config.model_dump(mode="json")
    return yaml.safe_dump(tree, sort_keys=False, allow_unicode=True, width=100)


def check_same_run(
    old: RunConfig, new: RunConfig, params: type[Section], allowed: Sequence[str] = ()
) -> dict[str, tuple[Any, Any]]:
    """Changed keys of a run that goes on, as {key: (old, new)}.

    Raises CheckpointError (a diff and the ways out) when an identity field differs, or a
    changeable one that is not in `allowed`.
    """
    kinds = field_kinds(RunConfig) | field_kinds(params, "params.")
    before, after = (flatten(c.model_dump(mode="json")) for c in (old, new))
    changed = {
        key: (before.get(key), after.get(key))
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key) and kinds.get(key, "free") != "free"
    }
    unknown = [key for key in allowed if kinds.get(key) != "changeable"]
    if unknown:
        can = ", ".join(sorted(key for key, kind in kinds.items() if kind == "changeable"))
        raise ConfigError(f"--allow-change {unknown[0]}: only these keys may change: {can}")
    refused = [key for key in changed if key not in allowed]
    if refused:
        raise CheckpointError(_identity_message(new.run.dir, changed, refused, kinds))
    return changed


def _identity_message(
    run_dir: str, changed: dict[str, tuple[Any, Any]], refused: list[str], kinds: Mapping[str, str]
) -> str:
    lines = [f"run {run_dir} was started with another configuration:"]
    lines += [f"  {key}: {changed[key][0]!r} -> {changed[key][1]!r}" for key in refused]
    changeable_keys = [key for key in refused if kinds[key] == "changeable"]
    if len(changeable_keys) == len(refused):
        flags = " ".join(f"--allow-change {key}" for key in changeable_keys)
        lines.append(f"to go on with the change: {flags}")
    lines.append(
        "to keep this run as it is: another run.dir, or train.start_from="
        f"{run_dir} with another run.dir to start from its weights"
    )
    return "\n".join(lines)
