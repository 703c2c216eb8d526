"""What calls have read: data that is read in order goes on where it was left.

A shuffle of tf.data moves on with each pass, a generator with each batch. So an object that a call
has read in vain, or one before `trainer.setup`, gives other batches than it does in another life.
"""

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from trainer.errors import ConfigError
from trainer.script.arrays import is_arrays

# Gives the object, or None when it is no more.
_Ref = Callable[[], Any]


class Sources:
    """Of one process, by the objects themselves, as long as they live.

    Those that cannot be referred to weakly live on: another one may get their address.
    """

    def __init__(self) -> None:
        self._read: list[_Ref] = []
        self._spoiled: list[_Ref] = []

    @contextmanager
    def reading(self, *given: Any, spoils: bool) -> Iterator[None]:
        """While a call reads them. Raises ConfigError for one that must be made anew.

        spoils: whether what a call reads that fails is spoiled by that.
        """
        ordered = [one for one in given if one is not None and not is_arrays(one)]
        for one in ordered:
            self._check(one)
        found = [ref for one in ordered if (ref := _ref(one)) is not None]
        try:
            yield
        except BaseException:
            if spoils:
                self._spoiled += found
            raise
        self._read += found

    def begin_life(self) -> None:
        """From here on calls are counted from the first one again."""
        self._spoiled += self._read
        self._read = []

    def _check(self, one: Any) -> None:
        kind = type(one).__name__
        is_read = any(read() is one for read in self._read)
        if any(spoiled() is one for spoiled in self._spoiled):
            before = "; a call that ended has read it, too, so begin with trainer.setup()"
            raise ConfigError(
                f"a {kind} was read before by a call of trainer.fit that failed, or before "
                "trainer.setup: in another life it would give other batches than now, so make it "
                f"anew{before if is_read else ''}"
            )
        if is_read and isinstance(one, Iterator):
            raise ConfigError(
                f"a {kind} was read by an earlier call of trainer.fit, and goes on where that left "
                "it, which is another batch in another life: make it anew for each call"
            )


def _ref(one: Any) -> _Ref | None:
    try:
        return weakref.ref(one)
    except TypeError:
        # A list gives the same each time; what `zip` or `map` gave is read once.
        return (lambda: one) if isinstance(one, Iterator) else None
