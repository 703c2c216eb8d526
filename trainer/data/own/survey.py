"""The first of two passes over a source: what its columns are, and how much goes where."""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import cast

from trainer.data.own.columns import (
    KINDS,
    MAX_CLASSES,
    Column,
    Kind,
    Survey,
    class_name,
    ordered_classes,
    too_many_classes,
)
from trainer.data.own.rows import Row, Source
from trainer.data.own.sorted_shards import KEY_BYTES
from trainer.errors import ConfigError, DataError

DEFAULT_TEST = 0.1


@dataclass(frozen=True)
class Wishes:
    """What a user says of the source.

    label: the column of the class, which images in folders do not need.
    test, validation: shares of the records for training that go there instead; by default a tenth
    is the test, unless the source has splits of its own.
    kinds: what columns hold, where their values do not tell.
    """

    label: str | None = None
    test: float | None = None
    validation: float = 0.0
    seed: int = 0
    kinds: Mapping[str, Kind] = field(default_factory=dict)

    def place(self, row: Row) -> tuple[str, bytes]:
        """The split of a row, and its place in the order of records: by its own hash alone."""
        digest = hashlib.sha256(self.seed.to_bytes(8) + row.identity).digest()
        split = row.split or "train"
        if split == "train":
            default = DEFAULT_TEST if row.split is None else 0.0
            share = int.from_bytes(digest[:8]) / 2**64
            test = default if self.test is None else self.test
            if share < test:
                split = "test"
            elif share < test + self.validation:
                split = "validation"
        return split, digest[8 : 8 + KEY_BYTES]


def read_kinds(texts: Iterable[str]) -> dict[str, Kind]:
    """Kinds by column of texts like "age=number"; ConfigError for any other."""
    found: dict[str, Kind] = {}
    for text in texts:
        column, _, kind = text.rpartition("=")
        if not column or kind not in KINDS:
            raise ConfigError(f"--type {text}: write COLUMN=KIND with one of {', '.join(KINDS)}")
        found[column] = cast(Kind, kind)
    return found


@dataclass(frozen=True)
class Plan:
    """What the pass found: columns, about how many bytes each split has, and how many rows."""

    columns: list[Column]
    sizes: dict[str, int]
    num_rows: int


def survey(source: Source, wishes: Wishes, on_row: Callable[[int], None]) -> Plan:
    """Look at every row; `on_row` is told how many there were.

    Raises:
        ConfigError: no such column, or a label that is none.
        DataError: the source has no usable rows, or cannot be read.
    """
    columns = source.columns()
    _check(columns, wishes)
    surveys = {n: Survey(n, source.is_typed) for n, column in columns.items() if column is None}
    name_of_label = wishes.label or ""
    label, classes = surveys.get(name_of_label), set[str]()
    sizes: dict[str, int] = {}
    own_splits = set[str | None]()
    number, unusable = 0, ""
    for number, row in enumerate(source.rows(), 1):
        on_row(number)
        if row.reason is not None:
            unusable = unusable or f": {row.place}: {row.reason}"
            continue
        for name, each in surveys.items():
            each.add(row.values[name])
        own_splits.add(row.split)
        split, _ = wishes.place(row)
        sizes[split] = sizes.get(split, 0) + row.size
        if label is not None and len(classes) <= MAX_CLASSES:
            classes.update(filter(None, [class_name(row.values[name_of_label])]))
    if not sizes:
        raise DataError(f"{source.name} has no rows that can be used{unusable}")
    if "train" not in sizes:
        raise DataError(
            f"none of {number} rows is for training: give more, or a smaller --test or --validation"
        )
    for split, share in (("test", wishes.test), ("validation", wishes.validation)):
        if share and split in own_splits:
            raise ConfigError(f"--{split} {share}: the source has a split '{split}' of its own")
    found = [column or surveys[n].column(wishes.kinds.get(n)) for n, column in columns.items()]
    if label is not None:
        found = [_label(c, label, classes, wishes) if c.name == name_of_label else c for c in found]
    return Plan(found, dict(sorted(sizes.items())), number)


def _check(columns: Mapping[str, Column | None], wishes: Wishes) -> None:
    if wishes.label is None:
        raise ConfigError(f"name the column of the class by --label: one of {', '.join(columns)}")
    for name in (wishes.label, *wishes.kinds):
        if name not in columns:
            raise ConfigError(f"there is no column '{name}': it has {', '.join(columns)}")
    _check_label(columns[wishes.label])
    for name in wishes.kinds:
        if columns[name] is not None:
            raise ConfigError(f"--type {name}: the source tells its type already")


def _check_label(column: Column | None) -> None:
    # Vectors of numbers may be what is to be predicted; integers are meant as classes.
    if column is None or column.kind == "number":
        return
    shape = " x ".join("?" if size is None else str(size) for size in column.shape)
    raise ConfigError(
        f"--label {column.name}: {column.kind}s of shape {shape} are no class: save one a row (of"
        " one-hot vectors their argmax), or what is to be predicted as numbers, by"
        " astype('float32')"
    )


def _label(column: Column, seen: Survey, classes: set[str], wishes: Wishes) -> Column:
    kind = wishes.kinds.get(column.name, seen.kind_of_label())
    if kind in ("integer", "number"):
        return replace(column, kind=kind)
    if len(classes) > MAX_CLASSES:
        raise too_many_classes(column.name)
    own = classes if column.name in wishes.kinds else set(filter(seen.fits, classes))
    return replace(column, kind="class", classes=ordered_classes(own, column.name))
