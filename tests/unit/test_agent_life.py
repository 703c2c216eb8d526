import asyncio
import gc
import logging
import select
import signal
import socket
import threading
from concurrent.futures import Future

import pytest
import structlog
from prometheus_client import CollectorRegistry

from trainer.agent.kept_output import KeptOutput
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
        self.output = None  # it prints nothing
        self.signals = []

    def signal(self, number):
        self.signals.append(number)
        if number == signal.SIGKILL and not self.ended.done():
            self.ended.set_result(-number)

    def kill(self):
        self.signal(signal.SIGKILL)


class Holding:
    """A store that answers when the test lets it."""

    def __init__(self):
        self.answers = threading.Event()

    num_looks = 0

    def check(self):
        self.num_looks += 1

    def refresh(self):
        assert self.answers.wait(DEADLINE)
        return {}


def life_of(process, holding, **more):
    relay = Relay(CollectorRegistry())
    log = structlog.get_logger()
    return Life(process, holding, relay, KeptOutput(None, 0, log), log, 600, 10, **more)


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
        process.end.sendall(encode({"kind": "complete"}))
        process.end.close()
        process.ended.set_result(0)
        assert await running == 0

    asyncio.run(talk())


@pytest.mark.parametrize(("told", "code"), [(["complete"], 0), ([], 1), (["saved"], 1)])
def test_a_0_is_believed_of_a_complete_run_alone(told, code):
    process = Process()
    life = life_of(process, Holding())

    async def talk():
        for kind in told:
            process.end.sendall(encode({"kind": kind}))
        process.end.close()
        process.ended.set_result(0)
        assert await life.run() == code

    asyncio.run(talk())
    assert ("before the run was complete" in life.error) == (code == 1)


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


def test_a_worker_that_waits_for_an_answer_does_not_hang():
    process, holding, now = Process(), Holding(), [0.0]
    life = life_of(process, holding, clock=lambda: now[0])

    async def looked_twice():
        seen = holding.num_looks
        await until(lambda: holding.num_looks >= seen + 2)

    async def talk():
        running = asyncio.create_task(life.run())
        process.end.sendall(encode({"kind": "refresh", "id": 7}))
        process.end.sendall(encode({"kind": "progress", "step": 5}))
        await until(lambda: life.step == 5)
        now[0] = 10_000.0
        await looked_twice()
        assert not life.is_hung
        holding.answers.set()
        await asyncio.to_thread(process.end.makefile("rb").readline)
        await looked_twice()
        assert not life.is_hung
        now[0] = 20_000.0
        await until(lambda: process.signals == [signal.SIGUSR1, signal.SIGKILL])
        await running

    asyncio.run(talk())
    assert life.is_hung
    process.end.close()


def test_last_words_are_heard_from_a_worker_that_left_an_answer_unread(caplog):
    process, holding = Process(), Holding()
    holding.answers.set()
    life = life_of(process, holding)

    async def talk():
        running = asyncio.create_task(life.run())
        process.end.sendall(encode({"kind": "refresh", "id": 7}))
        await asyncio.to_thread(select.select, [process.end], [], [], DEADLINE)
        process.end.sendall(encode({"kind": "error", "message": "the reason", "code": 3}))
        process.end.close()
        process.ended.set_result(3)
        return await running

    assert asyncio.run(talk()) == 3
    gc.collect()
    assert life.error == "the reason"
    assert not caplog.records
