"""What is wrong with a configuration, one line a key, in words for people."""

import difflib
import re
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from trainer.config.credentials import looks_secret
from trainer.config.fields import section_of
from trainer.config.yaml_text import shown_key

_EXPECTED = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "string_type": "text",
    "bool_type": "true or false",
    "none_required": "null",
    "tuple_type": "a list",
    "list_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a section of keys",
    "model_attributes_type": "a section of keys",
    "literal_error": "{expected}",
    "finite_number": "a finite number",
}
# The type was right: of a union's errors, these are what the user needs.
_BOUNDS = {
    "greater_than": "more than {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than": "less than {lt}",
    "less_than_equal": "at most {le}",
    "string_pattern_mismatch": "text that matches {pattern}",
    "string_too_long": "at most {max_length} characters",
    "string_too_short": "at least {min_length} characters",
    "too_long": "at most {max_length} entries",
    "too_short": "at least {min_length} entries",
}
_HARMLESS = re.compile(r"[\w .,:/%\[\]+-]{0,40}")


def explain(
    error: ValidationError, model: type[BaseModel], tree: Mapping[str, Any], prefix: str = ""
) -> list[str]:
    """One line for every wrong key, which it names with its dotted path and what it must be."""
    by_key: dict[tuple[str, ...], list[ErrorDetails]] = {}
    for problem in error.errors(include_url=False):
        path = _path(problem, tree)
        by_key.setdefault(path, []).append(problem)
    return [_line(model, path, problems, prefix) for path, problems in by_key.items()]


def did_you_mean(wrong: str, known: list[str]) -> str:
    """`: did you mean 'KEY'?` for the nearest known key, else the keys of its section, if any."""
    section, _, leaf = wrong.rpartition(".")
    # By their last names: a long section alone would make all keys in it look alike.
    siblings = {key.rpartition(".")[2]: key for key in known if key.rpartition(".")[0] == section}
    near = (
        [siblings[name] for name in difflib.get_close_matches(leaf, siblings, n=1)]
        or [key for key in known if key.rpartition(".")[2] == leaf]
        or ([] if section else difflib.get_close_matches(wrong, known, n=1))
    )
    if near:
        return f": did you mean '{near[0]}'?"
    return f": use one of {', '.join(siblings.values())}" if siblings else ""


def all_keys(model: type[BaseModel], prefix: str = "") -> list[str]:
    """Dotted keys of all fields, sections included."""
    keys: list[str] = []
    for name, field in model.model_fields.items():
        keys.append(prefix + name)
        if (section := section_of(field.annotation)) is not None:
            keys += all_keys(section, f"{prefix}{name}.")
    return keys


def _path(problem: ErrorDetails, tree: Any) -> tuple[str, ...]:
    """The location without the names that pydantic gives to the members of a union."""
    path: list[str] = []
    for part in problem["loc"]:
        if _is_place(part, tree):
            tree = tree[part]
        elif problem["type"] != "missing" or part != problem["loc"][-1]:
            continue
        path.append(str(part))
    return tuple(path)


def _is_place(part: int | str, tree: Any) -> bool:
    if isinstance(tree, Mapping):
        return part in tree
    return isinstance(tree, list | tuple) and isinstance(part, int) and part < len(tree)


def _line(
    model: type[BaseModel], path: tuple[str, ...], problems: list[ErrorDetails], prefix: str
) -> str:
    first = problems[0]
    shown = ".".join(shown_key(part) for part in (*prefix.split(".")[:-1], *path))
    if first["type"] == "extra_forbidden":
        # Keys inside of a list have no number among the known ones.
        key = prefix + ".".join(part for part in path if not part.isdigit())
        near = did_you_mean(key, [prefix + known for known in all_keys(model)])
        return f"unknown key '{shown}'{near}"
    if first["type"] == "missing":
        return f"'{shown}' is missing"
    for problem in problems:
        if problem["type"] == "value_error":
            return f"{shown or 'config'}: {problem['msg'].removeprefix('Value error, ')}"
    given = shown_value(first["input"])
    return f"'{shown}' is {given}: must be {_wanted(problems)}{_hint(first)}"


def _wanted(problems: list[ErrorDetails]) -> str:
    bounds = [problem for problem in problems if problem["type"] in _BOUNDS]
    texts = [
        (_BOUNDS | _EXPECTED).get(problem["type"], "another value").format(**problem.get("ctx", {}))
        for problem in bounds or problems
    ]
    return " or ".join(dict.fromkeys(texts))


def _hint(problem: ErrorDetails) -> str:
    is_scalar = isinstance(problem["input"], int | float)
    return " (in quotes it is text)" if is_scalar and problem["type"] == "string_type" else ""


def shown_value(value: Any) -> str:
    """A value as a message may show it: never what may be a secret."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str):
        is_harmless = _HARMLESS.fullmatch(value) and not looks_secret(value)
        return repr(value) if is_harmless else "a text that is not shown"
    return "a mapping" if isinstance(value, Mapping) else "a list"
