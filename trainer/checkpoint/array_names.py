"""Names of arrays: role/ordinal/path, and of metrics role/ordinal/path/replica-N.

Keras numbers the names that it makes through a process: where a notebook makes its model once
more, `dense/kernel` is `dense_2/kernel`. That is the same model, whose arrays go by other names.
"""

import re
from collections.abc import Iterable, Mapping

_REPLICA = re.compile(r"(metric/.*)/replica-([0-9]+)")
_COUNTED = re.compile(r"(.*?)(?:_([0-9]+))?")
# In a name of an optimizer's, which has all the names of a weight in it.
_COUNT = re.compile(r"_[0-9]+(?=[_/]|$)")


def split_replica(name: str) -> tuple[str, int]:
    """(name of the variable, number of the replica) of an array's name."""
    match = _REPLICA.fullmatch(name)
    return (match[1], int(match[2])) if match else (name, 0)


def counted_on(saved: Iterable[str], own: Iterable[str]) -> dict[str, str]:
    """Names of variables in a checkpoint -> those in the model, where Keras has only counted on.

    Empty where anything else differs. Of one kind of layer, all have moved by the same number:
    two layers that have changed places have not.
    """
    theirs, ours = sorted(saved), sorted(own)
    moved: dict[str, set[int]] = {}
    if len(theirs) != len(ours):
        return {}
    for name, other in zip(theirs, ours, strict=True):
        role, ordinal, path = name.split("/", 2)
        role_now, ordinal_now, path_now = other.split("/", 2)
        if (role, ordinal) != (role_now, ordinal_now):
            return {}
        if _COUNT.sub("", path) != _COUNT.sub("", path_now):
            return {}
        if role != "model":
            continue
        parts, parts_now = path.split("/"), path_now.split("/")
        if len(parts) != len(parts_now):
            return {}
        for (kind, number), (kind_now, number_now) in zip(
            map(_counted, parts), map(_counted, parts_now), strict=True
        ):
            if kind != kind_now:
                return {}
            moved.setdefault(kind, set()).add(number_now - number)
    return {} if any(len(by) > 1 for by in moved.values()) else dict(zip(theirs, ours, strict=True))


def renamed(name: str, known: Mapping[str, str]) -> str:
    """An array's name, with that of its variable as `known` has it."""
    variable = split_replica(name)[0]
    return known.get(variable, variable) + name.removeprefix(variable)


def _counted(part: str) -> tuple[str, int]:
    """`dense_2` -> (dense, 2), and `dense` -> (dense, 0)."""
    match = _COUNTED.fullmatch(part)
    return (part, 0) if match is None else (match[1], int(match[2] or 0))
