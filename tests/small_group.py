"""A leader and its members on loopback, with short times; peers that only note what they hear."""

import asyncio
import functools
from contextlib import AsyncExitStack, asynccontextmanager

from structlog.testing import CapturingLogger

from trainer.gathering.leader import Leader
from trainer.gathering.member import Member
from trainer.gathering.messages import OF_LEADER, Offer
from trainer.gathering.rules import Rules
from trainer.gathering.timings import Timings

SECRET = b"0123456789abcdef-of-one-run"
QUICK = Timings(
    wait=20, ping=0.05, silence=5, choose=20, stop=20, connect=5, retry=0.05, proof=5, close=1
)
TEST_SECONDS = 60


def on_loop(test):
    """Run an async test; none takes longer than a minute."""

    @functools.wraps(test)
    def run(*args, **kwargs):
        async def bounded():
            async with asyncio.timeout(TEST_SECONDS):
                return await test(*args, **kwargs)

        return asyncio.run(bounded())

    return run


def offer(index=0, num_workers=3, **changes):
    fields = {
        "index": index, "num_workers": num_workers, "pod": f"pod-{index}", "started": 100.0,
        "run": "a-run", "job": "a-job", "code_version": "1.0",
        "config": {"train.epochs": 3, "data.batch_size": 32, "train.learning_rate": 0.1},
        "address": f"10.0.0.{index}:2222",
    }  # fmt: skip
    return Offer(**fields | changes)


async def choose(generation, indices):
    return {"step": 100 * generation}


class Cluster:
    """A leader, and members by index; all closed at the end."""

    def __init__(self, stack, leader, timings):
        self.stack, self.leader, self.timings = stack, leader, timings
        self.members = {}

    async def member(self, index, **options):
        options = {"secret": SECRET, "timings": self.timings, "log": CapturingLogger()} | options
        member = Member("127.0.0.1", options.pop("port", self.leader.port), **options)
        self.members[index] = member
        return await self.stack.enter_async_context(member)

    async def join_all(self, num_workers=3, indices=None):
        """The plans of members that are made where they are missing."""
        indices = list(range(num_workers)) if indices is None else indices
        for index in indices:
            if index not in self.members:
                await self.member(index)
        joins = (self.members[i].join(offer(i, num_workers)) for i in indices)
        return await asyncio.gather(*joins)


@asynccontextmanager
async def cluster(
    num_workers=3, *, timings=QUICK, rules=None, choose=choose, secret=SECRET, port=0
):
    """A running leader for `num_workers`."""
    log = CapturingLogger()
    leader = Leader(
        offer(0, num_workers), choose, secret=SECRET, port=port, rules=rules or Rules(),
        timings=timings, log=log,
    )  # fmt: skip
    await leader.start()
    try:
        async with AsyncExitStack() as stack:
            running = Cluster(stack, leader, timings)
            running.log = log
            yield running
    finally:
        await leader.close()


class NotedPeer:
    """In place of a connection: what this member was told."""

    def __init__(self):
        self.told = []

    def send(self, payload):
        self.told.append(OF_LEADER.validate_json(payload))

    refuse = send

    def of(self, kind):
        return [message for message in self.told if isinstance(message, kind)]

    @property
    def last(self):
        return self.told[-1] if self.told else None
