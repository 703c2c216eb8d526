"""A few objects at a time, because a store answers one request slowly and many as fast."""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

NUM_THREADS = 4

_large = threading.Lock()


def in_parallel(tasks: Sequence[Callable[[], Any]]) -> list[Any]:
    """What the tasks return, in their order, from NUM_THREADS threads; the caller's is one.

    After the first error no task begins any more. It is raised when those under way have ended.
    """
    waiting = deque(enumerate(tasks))
    results: dict[int, Any] = {}
    errors: list[BaseException] = []

    def work() -> None:
        while waiting and not errors:
            try:
                number, task = waiting.popleft()
            except IndexError:
                return
            try:
                results[number] = task()
            except BaseException as error:
                errors.append(error)

    # Daemons, which an executor's are not: the process may end before a store that does not answer.
    threads = [
        threading.Thread(target=work, name="parallel", daemon=True)
        for _ in range(min(NUM_THREADS, len(tasks)) - 1)
    ]
    for thread in threads:
        thread.start()
    work()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return [results[number] for number in range(len(tasks))]


def alone_if(is_large: bool) -> AbstractContextManager[Any]:
    """Held while an object is in memory: large ones are there one at a time."""
    return _large if is_large else nullcontext()
