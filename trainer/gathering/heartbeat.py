"""Beats of a clock that know how late they are."""

import asyncio
from collections.abc import AsyncIterator


async def beats(seconds: float) -> AsyncIterator[float]:
    """One value every `seconds`: how many seconds late it comes.

    A process that was stopped, or too busy, has heard nobody in that time, and others are not to
    blame for it.
    """
    clock = asyncio.get_running_loop().time
    while True:
        due = clock() + seconds
        await asyncio.sleep(seconds)
        yield max(0.0, clock() - due)
