"""Connections that are no member's, or no longer: closed in time, heard of nowhere."""

import asyncio
import json
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from aiohttp import ClientSession, WSMsgType

from tests.small_group import QUICK, SECRET, cluster, offer, on_loop
from trainer.gathering import door
from trainer.gathering.connection import PATH, prove_as_member
from trainer.gathering.messages import OF_LEADER, Failed, Join, Plan, Pong, WorkerEnded, encode
from trainer.gathering.seal import Seal

HASTY = replace(QUICK, proof=0.3)


@asynccontextmanager
async def raw(running):
    """An open WebSocket to the leader."""
    url = f"ws://127.0.0.1:{running.leader.port}{PATH}"
    async with ClientSession() as session, session.ws_connect(url) as opened:
        yield opened


@asynccontextmanager
async def proven(running, index=1):
    """One that has proven itself and joined: (socket, proofs, its seal)."""
    async with raw(running) as opened:
        proofs = await prove_as_member(opened, SECRET)
        seal = Seal(proofs.key_of_member)
        await opened.send_bytes(seal.close(encode(Join(offer=offer(index, 2)))))
        yield opened, proofs, seal


async def closes(opened):
    """Whether the leader closes this socket; what it sends before is ignored."""
    while (message := await opened.receive()).type is WSMsgType.BINARY:
        pass
    return message.type in (WSMsgType.CLOSE, WSMsgType.CLOSED, WSMsgType.CLOSING)


ENDED = WorkerEnded(code=0, message="")
# what a proven member sends instead of the next message
BAD = {
    "tampered": lambda seal, _: seal.close(encode(ENDED))[:-1] + b" ",
    "of no seal": lambda *_: encode(ENDED),
    "sealed by the leader's key": lambda _, proofs: Seal(proofs.key_of_leader).close(encode(ENDED)),
    "one ahead": lambda seal, _: (seal.close(b""), seal.close(encode(ENDED)))[1],
    "repeated": lambda seal, proofs: Seal(proofs.key_of_member).close(
        encode(Join(offer=offer(1, 2)))
    ),
    "garbage": lambda seal, _: seal.close(b"\xff{"),
    "of unknown type": lambda seal, _: seal.close(b'{"type": "shutdown"}'),
    "of the leader's type": lambda seal, _: seal.close(b'{"type": "stop", "index": 1}'),
    "of a code that is nobody's": lambda seal, _: seal.close(
        b'{"type": "ended", "code": 1, "message": ""}'
    ),
    "with a key too many": lambda seal, _: seal.close(b'{"type": "pong", "x": 1}'),
    "with a text too long": lambda seal, _: seal.close(
        json.dumps({"type": "failed", "generation": 1, "reason": "x" * 3000}).encode()
    ),
    "oversized": lambda seal, _: seal.close(b'{"type": "pong"' + b" " * 70_000 + b"}"),
}


@pytest.mark.parametrize("kind", BAD)
@on_loop
async def test_a_message_that_is(kind):
    """... is heard of nowhere: its member is lost, and nothing else happens."""
    async with cluster(2) as running, proven(running) as (opened, proofs, seal):
        await opened.send_bytes(BAD[kind](seal, proofs))
        assert await closes(opened)
        found = running.leader.snapshot()
        assert (found.phase, found.present) == ("gathering", ())


@on_loop
async def test_a_recorded_connection_cannot_be_played_again():
    async with cluster(2) as running:
        async with raw(running) as opened:
            recorded = []
            send = opened.send_bytes

            async def record(data):
                recorded.append(data)
                await send(data)

            opened.send_bytes = record
            proofs = await prove_as_member(opened, SECRET)
            recorded.append(Seal(proofs.key_of_member).close(encode(Join(offer=offer(1, 2)))))
        async with raw(running) as opened:
            for data in recorded:
                await opened.send_bytes(data)
            assert await closes(opened)
        assert running.leader.snapshot().present == ()
        assert running.log.calls[-1].kwargs["reason"] == "did not prove that it knows the secret"


# what an unproven client sends, before it is silent
UNPROVEN = {
    "nothing": b"",
    "half a request": b"GET /gathering/1 HTTP/1.1\r\nHost: x\r\n",
    "another path": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "no WebSocket": b"GET /gathering/1 HTTP/1.1\r\nHost: x\r\n\r\n",
    "a WebSocket and no nonce": (
        b"GET /gathering/1 HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n\r\n"
    ),
}


@pytest.mark.parametrize("kind", UNPROVEN)
@on_loop
async def test_who_proves_nothing_is_closed_in_time(kind):
    async with cluster(timings=HASTY) as running:
        started = asyncio.get_running_loop().time()
        reader, writer = await asyncio.open_connection("127.0.0.1", running.leader.port)
        writer.write(UNPROVEN[kind])
        await reader.read()
        assert 0.2 < asyncio.get_running_loop().time() - started < 5
        writer.close()


@on_loop
async def test_a_nonce_and_no_proof_is_closed_in_time():
    async with cluster(timings=HASTY) as running, raw(running) as opened:
        await opened.send_bytes(b"n" * 32)
        assert len(await opened.receive_bytes()) == 64
        assert await closes(opened)
    assert "proved nothing for 0.3 s" in running.log.calls[0].kwargs["reason"]


@on_loop
async def test_who_proves_itself_and_does_not_join_is_closed_in_time():
    timings = replace(HASTY, silence=1000)
    async with cluster(timings=timings) as running, raw(running) as opened:
        await prove_as_member(opened, SECRET)
        assert await closes(opened)


@on_loop
async def test_a_member_that_does_not_read_is_lost():
    timings = replace(QUICK, silence=0.3)
    async with cluster(2, timings=timings) as running, proven(running):
        assert (await running.join_all(2, indices=[0]))[0].indices == (0, 1)
        broken = await running.members[0].next_event()
        assert broken.reason.startswith("worker 1: not heard of for 0.")


@on_loop
async def test_the_oldest_unproven_connection_makes_place(monkeypatch):
    async with cluster(2, timings=replace(QUICK, proof=1000)) as running:
        monkeypatch.setattr(running.leader._door, "_max_unproven", 3)
        port = running.leader.port
        silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(4)]
        assert await silent[0][0].read() == b""
        assert {plan.generation for plan in await running.join_all(2)} == {1}
        for _, writer in silent:
            writer.close()
    assert door.MAX_UNPROVEN >= 512


@on_loop
async def test_a_refusal_arrives_whatever_its_member_has_said_since():
    async with cluster(2) as running, raw(running) as opened:
        proofs = await prove_as_member(opened, SECRET)
        seal, theirs = Seal(proofs.key_of_member), Seal(proofs.key_of_leader)
        await opened.send_bytes(seal.close(encode(Join(offer=offer(1, 3)))))
        for _ in range(2000):
            await opened.send_bytes(seal.close(encode(Pong())))
        assert b"num_workers" in theirs.open(await opened.receive_bytes())


@on_loop
async def test_an_impostor_of_a_running_index_breaks_it_for_nobody():
    """Without the secret there is nothing to say; with it, an older incarnation is refused."""
    async with cluster(2) as running:
        await running.join_all(2)
        async with raw(running) as opened:
            proofs = await prove_as_member(opened, SECRET)
            seal, theirs = Seal(proofs.key_of_member), Seal(proofs.key_of_leader)
            old = offer(1, 2, started=1.0, pod="old")
            for message in (Join(offer=old), Failed(generation=1, reason="")):
                await opened.send_bytes(seal.close(encode(message)))
            answer = OF_LEADER.validate_json(theirs.open(await opened.receive_bytes()))
            assert answer.code == 76
        assert running.leader.snapshot().running == (0, 1)
        assert not isinstance(answer, Plan)
