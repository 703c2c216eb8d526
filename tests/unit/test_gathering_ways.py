"""How members find the leader: late, by a late name, after a restart; and false leaders."""

import asyncio
import signal
import socket
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from aiohttp import web
from aiohttp.abc import AbstractResolver
from structlog.testing import CapturingLogger

from tests.gathering_process import child
from tests.small_group import QUICK, SECRET, cluster, offer, on_loop
from trainer.errors import ConfigError, GatheringError
from trainer.gathering.connection import prove_as_leader
from trainer.gathering.leader import Leader
from trainer.gathering.member import Member

IMPATIENT = replace(QUICK, wait=0.3)
FALSE_SECRET = b"another secret, of no run"


class Names(AbstractResolver):
    """Resolves every name to loopback, once `known` is set."""

    def __init__(self):
        self.known = False
        self.asked = asyncio.Queue()

    async def resolve(self, host, port=0, family=socket.AF_INET):
        self.asked.put_nowait(host)
        if not self.known:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [
            {"hostname": host, "host": "127.0.0.1", "port": port, "family": socket.AF_INET,
             "proto": 0, "flags": socket.AI_NUMERICHOST}
        ]  # fmt: skip

    async def close(self):
        pass


class QueuedLog:
    """A log that can be waited for."""

    def __init__(self):
        self.said = asyncio.Queue()

    def info(self, event, **keys):
        self.said.put_nowait(keys)


def member(port, *, host="127.0.0.1", timings=QUICK, **options):
    options = {"secret": SECRET, "log": CapturingLogger()} | options
    return Member(host, port, timings=timings, **options)


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


async def why_unreached(port, **options):
    """What the error of a member that gives up says between the leader's name and the advice."""
    async with member(port, timings=IMPATIENT, **options) as one:
        with pytest.raises(GatheringError) as error:
            await one.join(offer(1))
    text = str(error.value)
    start = f"the leader {options.get('host', '127.0.0.1')}:{port} was not reached within 0.3 s: "
    assert text.startswith(start)
    return text.removeprefix(start).split(": check")[0]


@on_loop
async def test_a_late_leader_is_waited_for():
    log, port = QueuedLog(), free_port()
    async with member(port, log=log) as one:
        joining = asyncio.create_task(one.join(offer(0, 1)))
        said = await log.said.get()
        assert said == {"leader": f"127.0.0.1:{port}", "reason": "connection refused"}
        async with cluster(1, port=port):
            assert (await joining).generation == 1


@on_loop
async def test_a_late_name_is_waited_for():
    names = Names()
    async with (
        cluster(1) as running,
        member(running.leader.port, host="demo-0.demo", resolver=names) as one,
    ):
        joining = asyncio.create_task(one.join(offer(0, 1)))
        assert await names.asked.get() == "demo-0.demo"
        names.known = True
        assert (await joining).generation == 1


@on_loop
async def test_the_error_says_that_a_name_does_not_resolve():
    said = await why_unreached(2222, host="demo-0.demo", resolver=Names())
    assert said == "name does not resolve"


@on_loop
async def test_the_systems_own_names_are_asked():
    # Reserved for ever (RFC 6761); where nobody answers for names, that takes long.
    said = await why_unreached(2222, host="demo-0.invalid")
    assert said == "name does not resolve" or said.startswith("did not answer")


@on_loop
async def test_the_error_says_that_nobody_listens():
    assert await why_unreached(free_port()) == "connection refused"


@on_loop
async def test_a_member_with_another_secret_gives_up_and_the_leader_notes_it_once():
    async with cluster() as running:
        said = await why_unreached(running.leader.port, secret=FALSE_SECRET)
        assert said == "did not prove that it knows the secret"
        assert running.leader.snapshot().present == ()
    assert [(call.method_name, call.args) for call in running.log.calls] == [
        ("warning", ("connection refused",))
    ]
    assert running.log.calls[0].kwargs["peer"] == "127.0.0.1"
    assert "secret" in running.log.calls[0].kwargs["reason"]


@asynccontextmanager
async def false_leader(serve):
    """Something that answers at a port; `serve` gets an open WebSocket."""

    async def handle(request):
        opened = web.WebSocketResponse()
        await opened.prepare(request)
        await serve(opened)
        return opened

    server = web.Server(handle)
    listener = await asyncio.get_running_loop().create_server(server, "127.0.0.1", 0)
    try:
        yield listener.sockets[0].getsockname()[1]
    finally:
        listener.close()
        await server.shutdown(0)


async def other_secret(opened):
    await prove_as_leader(opened, FALSE_SECRET)


async def reflect(opened):
    nonce = await opened.receive_bytes()
    await opened.send_bytes(nonce + nonce)


async def close_at_once(opened):
    await opened.receive_bytes()


async def be_silent(opened):
    await opened.receive_bytes()
    await opened.receive()


async def speak_text(opened):
    await opened.send_str("welcome")


FALSE_LEADERS = [
    (other_secret, "did not prove that it knows the secret"),
    (reflect, "did not prove that it knows the secret"),
    (close_at_once, "closed the connection"),
    (be_silent, "did not answer within"),
    (speak_text, "sent text"),
]


@pytest.mark.parametrize(("serve", "text"), FALSE_LEADERS)
@on_loop
async def test_a_false_leader_is_told_nothing_and_given_up(serve, text):
    async with false_leader(serve) as port:
        assert (await why_unreached(port)).startswith(text)


@on_loop
async def test_a_server_of_something_else_is_given_up():
    async def refuse(request):
        return web.Response(status=404)

    listener = await asyncio.get_running_loop().create_server(web.Server(refuse), "127.0.0.1", 0)
    async with listener:
        said = await why_unreached(listener.sockets[0].getsockname()[1])
    assert said == "answered with HTTP status 404, not as a leader of this version"


@on_loop
async def test_a_leader_that_is_killed_is_found_again():
    async with child("lead", 0, 2) as first:
        port = int(await first.stdout.readline())
        async with member(port) as zero, member(port) as one:
            before = await asyncio.gather(zero.join(offer(0, 2)), one.join(offer(1, 2)))
            first.send_signal(signal.SIGKILL)
            broken = await asyncio.gather(zero.next_event(), one.next_event())
            assert {event.index for event in broken} == {0}
            assert broken[1].reason.startswith("the leader: ")
            again = asyncio.gather(zero.join(offer(0, 2)), one.join(offer(1, 2)))
            async with child("lead", port, 2) as second:
                await second.stdout.readline()
                plans = await again
                assert plans[0] == plans[1]
                assert plans[0].leader != before[0].leader


@on_loop
async def test_a_leader_that_is_frozen_is_lost():
    async with child("lead", 0, 1) as leader:
        port = int(await leader.stdout.readline())
        async with member(port, timings=replace(QUICK, silence=0.3)) as zero:
            await zero.join(offer(0, 1))
            leader.send_signal(signal.SIGSTOP)
            broken = await zero.next_event()
            assert broken.reason.startswith("the leader: not heard of for 0.")


@on_loop
async def test_who_waits_outlives_a_leader():
    port, begun = free_port(), asyncio.Event()

    async def never_choose(generation, indices):
        begun.set()
        await asyncio.Event().wait()

    async with member(port) as one:
        joining = asyncio.create_task(one.join(offer(0, 1)))
        async with cluster(1, port=port, choose=never_choose):
            await begun.wait()
        async with cluster(1, port=port):
            assert (await joining).chosen == {"step": 100}


@on_loop
async def test_an_end_that_was_told_before_the_leader_left_is_heard():
    port = free_port()
    async with member(port, timings=IMPATIENT) as zero, member(port) as one:
        async with cluster(2, port=port):
            await asyncio.gather(zero.join(offer(0, 2)), one.join(offer(1, 2)))
            await one.end(4, "NaN")
        assert (await zero.join(offer(0, 2))).code == 4


@on_loop
async def test_an_end_is_told_to_a_leader_that_was_away():
    port = free_port()
    async with member(port) as zero, member(port) as one:
        async with cluster(2, port=port):
            await asyncio.gather(zero.join(offer(0, 2)), one.join(offer(1, 2)))
        ending = asyncio.create_task(one.end(3, "record 7 is missing"))
        async with cluster(2, port=port):
            assert (await ending).code == 3
            assert (await zero.join(offer(0, 2))).message == "record 7 is missing"


@on_loop
async def test_a_port_in_use_is_named():
    async with cluster() as running:
        port = running.leader.port
        second = Leader(offer(), None, secret=SECRET, port=port, log=CapturingLogger())
        with pytest.raises(ConfigError, match=f"cannot gather at port {port} of 127.0.0.1"):
            await second.start()
