"""A bounded number of values in memory, each loaded once, some ahead of their use.

Who says in time what comes next finds it loaded. What is expected is never dropped for anything
but what is asked for now, so the cache holds just the next values of a known order.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from itertools import islice
from typing import Generic, TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")


class BlockCache(Generic[Key, Value]):
    """Values by key; safe to share between threads.

    Args:
        load: gives the value of a key; called from many threads.
        size: so many values are kept or being loaded at most.
        num_loaders: threads that load what is expected. They are there only while something is
            missing, and a process may end without them.
    """

    def __init__(self, load: Callable[[Key], Value], *, size: int, num_loaders: int = 0) -> None:
        self._load = load
        self._size = size
        self._num_idle = num_loaders
        self._lock = threading.Lock()
        self._entries: OrderedDict[Key, Future[Value]] = OrderedDict()
        self._expected: dict[Key, None] = {}

    def get(self, key: Key) -> Value:
        """The value, or what loading it raised; threads that want the same one wait for it."""
        with self._lock:
            future = self._entries.get(key)
            is_mine = future is None
            if future is None:
                future = self._enter(key)
            self._entries.move_to_end(key)
        if is_mine:
            self._fill(key, future)
        return future.result()

    def expect(self, keys: Iterable[Key], *, drop_others: bool = False) -> None:
        """Load what comes next, in this order, instead of what was expected before.

        An error is kept for nobody: who needs the value tries again.
        """
        with self._lock:
            self._expected = dict(islice(dict.fromkeys(keys).items(), self._size))
            for key in self._entries.keys() - self._expected.keys() if drop_others else ():
                del self._entries[key]
            num_missing = len(self._expected.keys() - self._entries.keys())
            starting = min(num_missing, self._num_idle)
            self._num_idle -= starting
        for _ in range(starting):
            threading.Thread(target=self._load_expected, name="block-loader", daemon=True).start()

    def _load_expected(self) -> None:
        while True:
            with self._lock:
                key = next((key for key in self._expected if key not in self._entries), None)
                if key is None:
                    self._num_idle += 1
                    return
                future = self._enter(key)
            self._fill(key, future)

    def _enter(self, key: Key) -> Future[Value]:
        """A place for the value; at the limit the least recently used other one goes."""
        if len(self._entries) >= self._size:
            others = (other for other in self._entries if other not in self._expected)
            del self._entries[next(others, next(iter(self._entries)))]
        future = self._entries[key] = Future()
        return future

    def _fill(self, key: Key, future: Future[Value]) -> None:
        try:
            future.set_result(self._load(key))
        except BaseException as error:
            with self._lock:
                if self._entries.get(key) is future:
                    del self._entries[key]
                self._expected.pop(key, None)
            future.set_exception(error)
