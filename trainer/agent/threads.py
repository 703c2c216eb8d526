"""Work that blocks, for an agent that must not."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

Result = TypeVar("Result")


async def in_thread(function: Callable[..., Result], *args: Any) -> Result:
    """What the function returns, or raises.

    As `asyncio.to_thread`, but the process may end before it: a store may not answer for minutes.
    """
    future: Future[Result] = Future()

    future.set_running_or_notify_cancel()  # nobody can cancel it, whoever stops to wait

    def work() -> None:
        try:
            future.set_result(function(*args))
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=work, name="storage", daemon=True).start()
    return await asyncio.wrap_future(future)
