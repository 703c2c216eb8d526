"""YAML as configurations use it: the core schema of YAML 1.2, and no values in error messages."""

import re
from typing import Any

import yaml

from trainer.errors import ConfigError

# By itself, PyYAML reads YAML 1.1: 010 as 8, 1:30 as 90, on as true, and 1e-3 as text.
_CORE = {
    "null": r"~|null|Null|NULL|",
    "bool": r"true|True|TRUE|false|False|FALSE",
    "int": r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+",
    "float": r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?"
    r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
}
# Part of what PyYAML says -> what is wrong, and what to do. The first ones it notices late: their
# place is where it began to read.
_NOT_ENDED = {
    "expected ',' or": "a bracket that is not closed: close it, with commas between entries",
    "end of stream": "a quote that is not closed: close it",
    "expected ':'": "a key without its ':': write KEY: VALUE",
}
_MISPLACED = {
    "values are not allowed": "a ':' that cannot stand here: write one KEY: VALUE a line, and text "
    "that holds ': ' in quotes",
    "expected <block end>": "a line that does not belong to those above: indent the keys of a "
    "section alike, and close quotes",
    "cannot start any token": "a tab, or a sign that no value begins with: indent by spaces, and "
    "write text in quotes",
    "another document": "a second document (---): keep one",
}


class _RefusedError(yaml.MarkedYAMLError):
    """What PyYAML would take."""


def _refused(problem: str, at: Any) -> _RefusedError:
    return _RefusedError(problem=problem, problem_mark=at.start_mark)


class _Loader(yaml.SafeLoader):
    """Refuses duplicate keys, which PyYAML would silently merge, and tags and aliases."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - PyYAML's, filled below

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent):
            raise _refused("an alias (*): write out the value", event)
        if event.tag is not None:
            raise _refused("a tag (!): write the plain value", event)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise _refused("a key that is not text: write it in quotes", key_node)
            if key in seen:
                raise _refused(f"key '{shown_key(key)}' appears twice: keep one", key_node)
            seen.add(key)
        return super().construct_mapping(node, deep)

    def construct_int(self, node: yaml.ScalarNode) -> int:
        """The number; PyYAML's own takes a leading 0 for octal."""
        try:
            return int(node.value, 0 if node.value[:2] in ("0o", "0x") else 10)
        except ValueError:
            raise _refused("a number of too many digits: write a shorter one", node) from None


class _Dumper(yaml.SafeDumper):
    """Quotes what any YAML would not read as text, and writes no alias, which is refused."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002
        return True


for _name, _form in _CORE.items():
    for _class in (_Loader, _Dumper):
        _tag = f"tag:yaml.org,2002:{_name}"
        _class.add_implicit_resolver(_tag, re.compile(rf"(?:{_form})\Z"), None)
_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_int)


def parse_yaml(text: str, source: str) -> Any:
    """YAML text -> plain data; `source` names it in errors. Raises ConfigError."""
    try:
        return yaml.load(text, _Loader)
    except yaml.MarkedYAMLError as error:
        problem, mark = _explain(error)
        place = f" line {mark.line + 1}, column {mark.column + 1}" if mark else ""
    except yaml.reader.ReaderError as error:
        place = f" line {text.count(chr(10), 0, error.position) + 1}"
        problem = "a character that is not printable: remove it"
    except RecursionError:
        place, problem = "", "nested too deeply to be a configuration"
    # Outside of the handler: PyYAML's error shows the line, which may hold a secret.
    raise ConfigError(f"{source}{place}: {problem}")


def _explain(error: yaml.MarkedYAMLError) -> tuple[str, yaml.Mark | None]:
    """What is wrong, in words that show nothing of the text, and where."""
    said = error.problem or ""
    if isinstance(error, _RefusedError):
        return said, error.problem_mark
    for table, mark in ((_NOT_ENDED, error.context_mark), (_MISPLACED, error.problem_mark)):
        for part, words in table.items():
            if part in said:
                return words, mark
    return "not YAML: write text in quotes, and check indentation", error.problem_mark


def dump_yaml(tree: Any) -> str:
    """Plain data as YAML, in its own order; `parse_yaml` gives it back unchanged."""
    return yaml.dump(tree, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)


def shown_key(key: str) -> str:
    """A key as a message may show it: not what cannot be one."""
    return key if re.fullmatch(r"[\w.\[\]-]{1,100}", key) else "(not shown)"
