"""YAML as configurations use it: plain data, no surprises, and no values in error messages."""

import re
from typing import Any

import yaml

from trainer.errors import ConfigError

_FLOAT = "tag:yaml.org,2002:float"
_TIMESTAMP = "tag:yaml.org,2002:timestamp"
# YAML 1.1 reads 1e-3 as text, because it wants a dot; everybody means the number.
_EXPONENT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)[eE][-+]?[0-9]+$")


class _Loader(yaml.SafeLoader):
    """Refuses duplicate keys, which PyYAML would silently merge, and aliases."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()  # type: ignore[no-untyped-call]
            raise ConfigError(f"an alias (*) in line {_line(event)}: write out the value")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise ConfigError(_not_text(key, _line(key_node)))
            if key in seen:
                raise ConfigError(
                    f"key '{shown_key(key)}' appears twice, the second time in line "
                    f"{_line(key_node)}: keep one"
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


class _Dumper(yaml.SafeDumper):
    """Quotes what `_Loader` would not read as text, and writes no alias, which it refuses."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002
        return True


def _without(resolvers: dict[Any, Any], tag: str) -> dict[Any, Any]:
    return {first: [pair for pair in pairs if pair[0] != tag] for first, pairs in resolvers.items()}


# A date stays text: no key of ours holds one.
_Loader.yaml_implicit_resolvers = _without(_Loader.yaml_implicit_resolvers, _TIMESTAMP)
for _class in (_Loader, _Dumper):
    _class.add_implicit_resolver(_FLOAT, _EXPONENT, list("-+.0123456789"))


def parse_yaml(text: str, source: str) -> Any:
    """YAML text -> plain data; `source` names it in errors. Raises ConfigError."""
    try:
        return yaml.load(text, _Loader)
    except ConfigError as error:
        raise ConfigError(f"{source}: {error}") from None
    except yaml.YAMLError as error:
        # From None: PyYAML's own text shows the line, which may hold a secret.
        raise ConfigError(f"{source}{_where(error)}: {_problem(error)}") from None
    except RecursionError:
        raise ConfigError(f"{source}: nested too deeply to be a configuration") from None
    except ValueError:
        raise ConfigError(f"{source}: holds a number or a date that cannot be read") from None


def dump_yaml(tree: Any) -> str:
    """Plain data as YAML, in its own order; `parse_yaml` gives it back unchanged."""
    return yaml.dump(tree, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)


def shown_key(key: str) -> str:
    """A key as a message may show it: not what cannot be one."""
    return key if re.fullmatch(r"[\w.\[\]-]{1,100}", key) else "(not shown)"


def _not_text(key: Any, line: int) -> str:
    if isinstance(key, bool):
        return (
            f"a key in line {line} is a boolean (YAML reads an unquoted on/off/yes/no as one): "
            "write it in quotes"
        )
    return f"a key in line {line} is a {type(key).__name__}, not text: write it in quotes"


def _line(node: Any) -> int:
    return int(node.start_mark.line) + 1


def _where(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    return f" line {mark.line + 1}" if mark else ""


def _problem(error: yaml.YAMLError) -> str:
    # Quoted parts are the user's text, but for single characters.
    problem = getattr(error, "problem", None) or "not YAML"
    return re.sub(r"'[^']{2,}'", "(not shown)", problem)
