"""What a model may know of all records beforehand: means, deviations, vocabularies."""

import json
from typing import Any

import numpy as np

from trainer.data.own.columns import Column

# A column of texts with more different values has no vocabulary, nor one whose values come fewer
# times than so many on average: they are sentences, of which a new record has another one.
MAX_VOCABULARY, LEAST_REPEATS = 1000, 2
_PIECE = 1024


class Measures:
    """What is kept of the records of one split; columns of other kinds have none."""

    def __init__(self, columns: list[Column]) -> None:
        self._numbers = {c.name: _Moments() for c in columns if c.kind in ("integer", "number")}
        self._texts: dict[str, set[str] | None] = {
            c.name: set() for c in columns if c.kind == "text"
        }
        self._num_records = 0

    def add(self, values: dict[str, Any]) -> None:
        """One more record, as its columns converted it."""
        self._num_records += 1
        for name, moments in self._numbers.items():
            moments.add(values[name])
        for name, words in self._texts.items():
            if words is not None:
                words.add(values[name].decode())
                if len(words) > MAX_VOCABULARY:
                    self._texts[name] = None

    def to_json(self, split: str) -> bytes:
        """The file's content; equal records give equal bytes."""
        numbers = {name: moments.found() for name, moments in self._numbers.items()}
        texts = {
            name: {"vocabulary": sorted(words)}
            for name, words in self._texts.items()
            if words is not None and self._num_records >= LEAST_REPEATS * len(words)
        }
        tree = {"split": split, "features": numbers | texts}
        return (json.dumps(tree, indent=1, sort_keys=True) + "\n").encode()


class _Moments:
    """Mean and deviation of the numbers so far that are there, merged in pieces (Chan's method)."""

    def __init__(self) -> None:
        self._waiting: list[Any] = []
        self._count: Any = 0
        self._mean: Any = 0.0
        self._squares: Any = 0.0

    def add(self, value: Any) -> None:
        self._waiting.append(value)
        if len(self._waiting) == _PIECE:
            self._merge()

    def found(self) -> dict[str, Any]:
        self._merge()
        variance = self._squares / np.maximum(self._count, 1)
        return {"mean": np.asarray(self._mean).tolist(), "deviation": np.sqrt(variance).tolist()}

    def _merge(self) -> None:
        values = np.asarray(self._waiting, np.float64)
        is_there = ~np.isnan(values)
        count = is_there.sum(axis=0)
        mean = np.where(is_there, values, 0.0).sum(axis=0) / np.maximum(count, 1)
        squares = np.where(is_there, (values - mean) ** 2, 0.0).sum(axis=0)
        total = np.maximum(self._count + count, 1)
        apart = mean - self._mean
        self._squares = self._squares + squares + apart**2 * self._count * count / total
        self._mean = self._mean + apart * count / total
        self._count = self._count + count
        self._waiting = []
