"""What a notebook's calls have read: data that is read in order goes on where it was left.

A shuffle of tf.data moves on with each pass, a generator with each batch. So an object that a call
has read in vain, or one before `trainer.setup`, gives other batches than it does in another life.
"""

import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from trainer.errors import ConfigError
from trainer.script.arrays import is_arrays


class Sources:
    """Of one process, by the objects themselves, as long as they live."""

    def __init__(self) -> None:
        self._read: list[weakref.ref[Any]] = []
        self._spoiled: list[weakref.ref[Any]] = []

    @contextmanager
    def reading(self, *given: Any) -> Iterator[None]:
        """While a call reads them. Raises ConfigError for one that must be made anew."""
        ordered = [one for one in given if one is not None and not is_arrays(one)]
        for one in ordered:
            if any(spoiled() is one for spoiled in self._spoiled):
                raise ConfigError(
                    f"a {type(one).__name__} was read before by a call of trainer.fit that failed, "
                    "or before trainer.setup: in another life it would give other batches than "
                    "now, so make it anew"
                )
        found: list[weakref.ref[Any]] = []
        for one in ordered:
            with suppress(TypeError):  # a list, which gives the same each time
                found.append(weakref.ref(one))
        try:
            yield
        except BaseException:
            self._spoiled += found
            raise
        self._read += found

    def begin_life(self) -> None:
        """From here on calls are counted from the first one again."""
        self._spoiled += self._read
        self._read = []
