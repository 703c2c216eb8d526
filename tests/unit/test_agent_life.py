import asyncio
import logging
import signal
import socket
import threading
from concurrent.futures import Future

import structlog
from prometheus_client import CollectorRegistry

from trainer.agent.life import Life
from trainer.channel import decode, encode
from trainer.metrics.relay import Relay

DEADLINE = 30


class Process:
    """A worker as far as its agent sees it; `end` is the worker's end of the channel."""

    def __init__(self):
        self.channel, self.end = socket.socketpair()
        self.end.settimeout(DEADLINE)
        self.ended = Future()
        self.signals = []

    def signal(self, number):
        self.signals.append(number)
        if number == signal.SIGKILL and not self.ended.done():
            self.ended.set_result(-number)


class Holding:
    """A store that answers when the test lets it."""

    def __init__(self):
        self.answers = threading.Event()

    def check(self):
        pass

    def refresh(self):
        assert self.answers.wait(DEADLINE)
        return {}


def life_of(process, holding):
    relay = Relay(CollectorRegistry())
    return Life(process, holding, relay, structlog.get_logger(), 600, 10)


async def until(condition):
    async with asyncio.timeout(DEADLINE):
        while not condition():
            await asyncio.sleep(0.01)


def test_progress_is_heard_while_the_store_does_not_answer():
    process, holding = Process(), Holding()
    life = life_of(process, holding)

    async def talk():
        running = asyncio.create_task(life.run())
        process.end.sendall(encode({"kind": "refresh", "id": 7}))
        process.end.sendall(encode({"kind": "progress", "step": 5}))
        await until(lambda: life.step == 5)
        holding.answers.set()
        line = await asyncio.to_thread(process.end.makefile("rb").readline)
        assert decode(line) == {"kind": "answer", "id": 7}
        process.end.close()
        process.ended.set_result(0)
        assert await running == 0

    asyncio.run(talk())


def test_a_worker_that_cannot_be_understood_is_ended(caplog):
    process = Process()
    life = life_of(process, Holding())

    async def talk():
        process.end.sendall(b"{nonsense\n")
        return await asyncio.wait_for(life.run(), DEADLINE)

    with caplog.at_level(logging.ERROR):
        assert asyncio.run(talk()) == -signal.SIGKILL
    assert process.signals == [signal.SIGKILL]
    process.end.close()
