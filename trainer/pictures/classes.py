"""Which outputs of a model tell classes, what they say, and what the classes are called.

Arrays only: [n] records at a time, as many targets as outputs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

_LONGEST_NAME = 20


@dataclass(frozen=True)
class Classified:
    """One output for some records: true classes, int [n], and what the model gave, float64
    [n, columns].

    One column is that of the second of two classes. Columns are probabilities or logits:
    `look_like_probabilities` tells, better the more records there are.
    """

    name: str
    targets: Any
    given: Any

    @property
    def num_classes(self) -> int:
        """How many there are."""
        return max(int(self.given.shape[1]), 2)

    @property
    def look_like_probabilities(self) -> bool:
        """Whether no number says that they are logits."""
        given = self.given
        if given.shape[1] == 1:
            return bool(np.all((given >= 0) & (given <= 1)))
        return bool(np.all(given >= 0) and np.allclose(given.sum(axis=1), 1, atol=1e-2))

    def probabilities(self, *, of_logits: bool) -> Any:
        """float64 [n, num_classes]."""
        given = self.given
        if given.shape[1] == 1:
            given = np.concatenate([0 * given, given] if of_logits else [1 - given, given], axis=1)
        if not of_logits:
            return given
        powers = np.exp(given - given.max(axis=1, keepdims=True))
        return powers / powers.sum(axis=1, keepdims=True)


def classified(y: Any, outputs: Any, output_names: Sequence[str] = ()) -> list[Classified]:
    """The outputs that tell classes, of records' targets `y` and a model's `outputs` for them.

    A class is told by two or more columns, with targets [n] or one-hot [n, columns], or by one
    column with targets that are 0 or 1.
    """
    found = []
    for name, target, given in _pairs(y, outputs, output_names):
        columns = np.asarray(given).astype(np.float64)
        if columns.ndim != 2:
            continue
        classes = _classes(np.asarray(target), columns.shape[1])
        if classes is not None:
            found.append(Classified(name, classes, columns))
    return found


def _pairs(y: Any, outputs: Any, names: Sequence[str]) -> list[tuple[str, Any, Any]]:
    """(name, target, output) of each output that has a target."""
    if isinstance(outputs, Mapping):
        is_named = isinstance(y, Mapping)
        return [(name, y[name], outputs[name]) for name in outputs if is_named and name in y]
    targets, given = keras.tree.flatten(y), keras.tree.flatten(outputs)
    if len(targets) != len(given) or any(target is None for target in targets):
        return []
    if len(names) != len(given):
        names = [f"output {number + 1}" for number in range(len(given))]
    return list(zip(names, targets, given, strict=True))


def _classes(target: Any, columns: int) -> Any:
    """int [n], or None where `target` is none of so many classes."""
    if columns > 1 and target.shape[1:] == (columns,):
        is_one_hot = np.all((target == 0) | (target == 1)) and np.all(target.sum(axis=1) == 1)
        return target.argmax(axis=1) if is_one_hot else None
    if target.shape[1:] not in ((), (1,)) or target.dtype.kind not in "iufb":
        return None
    target = target.reshape(-1)
    whole = target.astype(np.int64)
    is_class = np.all(whole == target) and np.all((whole >= 0) & (whole < max(columns, 2)))
    return whole if is_class else None


def names_of(output: str, num_classes: int, known: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """The classes' names: of the feature called as the output, or the only one with so many."""
    fitting = {name: names for name, names in known.items() if len(names) == num_classes}
    if output in fitting:
        return tuple(map(_short, fitting[output]))
    if len(fitting) == 1:
        return tuple(map(_short, next(iter(fitting.values()))))
    return tuple(map(str, range(num_classes)))


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else name[: _LONGEST_NAME - 1] + "…"
