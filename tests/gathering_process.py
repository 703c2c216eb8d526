"""A leader or a member in a process of its own, to be stopped or killed.

python -m tests.gathering_process lead PORT NUM_WORKERS | join PORT INDEX NUM_WORKERS
"""

import asyncio
import sys
from contextlib import asynccontextmanager

from structlog.testing import CapturingLogger

from tests.small_group import QUICK, SECRET, choose, offer
from trainer.gathering.leader import Leader
from trainer.gathering.member import Member


async def lead(port, num_workers):
    own = offer(0, num_workers)
    log = CapturingLogger()
    leader = Leader(own, choose, secret=SECRET, port=port, timings=QUICK, log=log)
    await leader.start()
    print(leader.port, flush=True)
    await asyncio.Event().wait()


async def join(port, index, num_workers):
    """Join again whenever a generation breaks; print what happens, a line each."""
    async with Member(
        "127.0.0.1", port, secret=SECRET, timings=QUICK, log=CapturingLogger()
    ) as member:
        while True:
            print((await member.join(offer(index, num_workers))).model_dump_json(), flush=True)
            print((await member.next_event()).model_dump_json(), flush=True)


@asynccontextmanager
async def child(*arguments):
    """This module with these arguments; killed at the end. Its lines come by `.stdout`."""
    command = [sys.executable, "-m", __name__, *map(str, arguments)]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        process._transport.close()


if __name__ == "__main__":
    asyncio.run({"lead": lead, "join": join}[sys.argv[1]](*map(int, sys.argv[2:])))
