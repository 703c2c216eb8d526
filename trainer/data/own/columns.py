"""What a column holds, found out from its values, and how a value becomes a feature."""

import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np

from trainer.errors import ConfigError, DataError

Kind = Literal["integer", "number", "text", "class", "image"]
KINDS = get_args(Kind)[:4]  # what a user may say
MAX_CLASSES = 10_000
# A column is of numbers although so many of its values are none: those are broken rows.
_MOST_STRANGE = 0.1
_MISSING = ("", "nan", "NaN", None)
_INTEGER = re.compile(r"\s*[+-]?[0-9]{1,19}\s*")
_INT64 = range(-(2**63), 2**63)
_MOST = np.finfo(np.float32).max


@dataclass(frozen=True)
class Column:
    """One feature: `shape` of its values (None: any), and names of classes, in their order."""

    name: str
    kind: Kind
    shape: tuple[int | None, ...] = ()
    classes: dict[str, int] = field(default_factory=dict)

    def convert(self, value: Any) -> Any:
        """The value as it is kept, an int, a float, bytes or an array; ValueError says why not."""
        if isinstance(value, np.ndarray):
            return value if self.kind == "image" else self._array(value)
        converters: dict[Kind, Callable[[Any], Any]] = {
            "integer": _integer, "number": _number, "text": _text,
            "class": self._class, "image": lambda image: image,
        }  # fmt: skip
        return converters[self.kind](value)

    def _array(self, value: Any) -> Any:
        if self.kind == "number":
            if (abs(value) > _MOST).any():
                raise ValueError("a number beyond what 32 bits hold")
            return value.astype(np.float32)
        if value.size and int(value.max()) not in _INT64:
            raise ValueError("an integer of more than 64 bits")
        return value.astype(np.int64)

    def _class(self, value: Any) -> int:
        name = class_name(value)
        if name is None:
            raise ValueError("no class")
        if name not in self.classes:
            raise ValueError(f"{name!r} is not one of the classes")
        return self.classes[name]


def class_name(value: Any) -> str | None:
    """How a class is called: the integer 7 as the text '7'; None for a value that is missing."""
    return None if is_missing(value) else str(value).strip()


def is_missing(value: Any) -> bool:
    """Whether a value is not there: an empty text, None, or not a number."""
    return value in _MISSING or (isinstance(value, float) and math.isnan(value))


def _look_of_text(value: str) -> str:
    if _INTEGER.fullmatch(value) and int(value) in _INT64:
        return "integer"
    try:
        float(_without_underscores(value))
    except ValueError:
        return "text"
    return "number"


def _without_underscores(value: Any) -> Any:
    """The value; ValueError for texts like 2024_01, which Python alone takes for numbers."""
    if isinstance(value, str) and "_" in value:
        raise ValueError
    return value


def _integer(value: Any) -> int:
    try:
        number = int(_without_underscores(value))
    except (TypeError, ValueError):
        raise ValueError(f"{value!r} is not an integer") from None
    if number not in _INT64 or (isinstance(value, float) and number != value):
        raise ValueError(f"{value!r} is not an integer of 64 bits")
    return number


def _number(value: Any) -> float:
    try:
        number = math.nan if is_missing(value) else float(_without_underscores(value))
    except (TypeError, ValueError):
        raise ValueError(f"{value!r} is not a number") from None
    if abs(number) > _MOST:  # false for one that is missing
        raise ValueError(f"{value!r} is beyond what 32 bits hold")
    return number


def _text(value: Any) -> bytes:
    try:
        return b"" if value is None else str(value).encode()
    except UnicodeEncodeError:
        raise ValueError("not UTF-8") from None


@dataclass
class Survey:
    """What the values of one column look like."""

    name: str
    is_typed: bool
    counts: dict[str, int] = field(
        default_factory=lambda: {"integer": 0, "number": 0, "text": 0, "missing": 0}
    )

    def add(self, value: Any) -> None:
        """Look at one more."""
        self.counts[self._look(value)] += 1

    def _look(self, value: Any) -> str:
        if is_missing(value):
            return "missing"
        if isinstance(value, int):
            return "integer"
        if isinstance(value, float):
            return "number"
        return "text" if self.is_typed else _look_of_text(value)

    def kind(self) -> Kind:
        """What the column is taken for."""
        numbers = self.counts["integer"] + self.counts["number"]
        if self.counts["text"] > _MOST_STRANGE * (numbers + self.counts["text"]) or not numbers:
            return "text"
        return "number" if self.counts["number"] or self.counts["missing"] else "integer"

    def column(self, kind: Kind | None) -> Column:
        """The column, of the kind that a user says, or of that which it is taken for."""
        return Column(self.name, kind or self.kind())

    def kind_of_label(self) -> Kind:
        """The same for what is to be learned: missing ones are broken rows, no kind."""
        return "number" if self.kind() == "number" and self.counts["number"] else "class"

    def fits(self, name: str) -> bool:
        """Whether a class may have this name in a column that is mostly of integers."""
        is_integers = self.kind() != "text" and not self.counts["number"]
        return not is_integers or self._look(name) == "integer" or self.is_typed


def ordered_classes(names: Iterable[str], label: str) -> dict[str, int]:
    """Numbers of classes by name: in order of number where all are numbers, else of name."""
    found = set(names)
    if len(found) < 2:
        raise DataError(f"'{label}' has {len(found)} classes: there is nothing to learn")
    for name in found:
        if any("\ud800" <= character <= "\udfff" for character in name):
            raise DataError(f"'{label}' has a class {name!r}, which is not UTF-8: save it as UTF-8")
        if not name.isprintable():
            raise DataError(f"'{label}' has a class {name!r}: name it in one line of characters")
    are_numbers = all(_INTEGER.fullmatch(name) for name in found)
    ordered = sorted(found, key=(lambda name: (int(name), name)) if are_numbers else None)
    return {name: number for number, name in enumerate(ordered)}


def too_many_classes(label: str) -> ConfigError:
    """What is said of a column that can hardly be of classes."""
    return ConfigError(
        f"column '{label}' has more than {MAX_CLASSES} different values: name the column of the"
        f" class with --label, or take this one as a number with --type {label}=number"
    )
