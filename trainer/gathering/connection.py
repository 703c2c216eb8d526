"""One connection between a member and the leader: a WebSocket, proven, then sealed.

Leader and member differ in who proves first and which key seals; the rest is the same.
"""

import asyncio
import os
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from aiohttp import ClientWebSocketResponse, WSMsgType, web

from trainer.gathering.seal import NONCE_BYTES, ProofError, Proofs, Seal, check_proof, make_proofs

PATH = "/gathering/1"
MAX_QUEUED = 256

Socket = web.WebSocketResponse | ClientWebSocketResponse


class LostError(Exception):
    """The other side closed the connection, or broke it."""


async def prove_as_leader(socket: Socket, secret: bytes) -> Proofs:
    """Prove first, then see the member's proof. Raises `ProofError`, `LostError`."""
    member_nonce = await _frame(socket)
    leader_nonce = os.urandom(NONCE_BYTES)
    proofs = make_proofs(secret, member_nonce=member_nonce, leader_nonce=leader_nonce)
    await _send(socket, leader_nonce + proofs.by_leader)
    check_proof(await _frame(socket), proofs.by_member)
    return proofs


async def prove_as_member(socket: Socket, secret: bytes) -> Proofs:
    """See the leader's proof, then prove. Raises `ProofError`, `LostError`."""
    member_nonce = os.urandom(NONCE_BYTES)
    await _send(socket, member_nonce)
    answer = await _frame(socket)
    leader_nonce, proof = answer[:NONCE_BYTES], answer[NONCE_BYTES:]
    proofs = make_proofs(secret, member_nonce=member_nonce, leader_nonce=leader_nonce)
    check_proof(proof, proofs.by_leader)
    await _send(socket, proofs.by_member)
    return proofs


class Connection:
    """Sends without waiting, and hands on what it hears, until it is lost."""

    def __init__(self, socket: Socket, *, outgoing: bytes, incoming: bytes) -> None:
        self._socket = socket
        self._outgoing, self._incoming = Seal(outgoing), Seal(incoming)
        self._queue: asyncio.Queue[bytes | None] = asyncio.Queue(MAX_QUEUED)
        self._lost: str | None = None
        self._is_dismissed = False
        self._limit: asyncio.Timeout | None = None

    def send(self, payload: bytes) -> None:
        """Queue a message; who is lost or dismissed already is told nothing."""
        self._put(payload)

    def dismiss(self, payload: bytes | None, seconds: float) -> None:
        """Queue a last message, then close; at most `seconds` later all is over."""
        if self._is_dismissed or self._lost is not None:
            return
        if payload is not None:
            self._put(payload)
        self._put(None)
        self._is_dismissed = True
        self._end_in(seconds)

    def drop(self, reason: str) -> None:
        """Give up at once, for `reason`."""
        if self._lost is None:
            self._lost = reason
        self._end_in(0)

    async def listen(self, hear: Callable[[bytes], None]) -> str:
        """Hand each message to `hear`, which may raise ValueError; returns why it ended."""
        writer = asyncio.create_task(self._write())
        try:
            async with asyncio.timeout(None) as self._limit:
                if self._lost is not None:
                    return self._lost
                await self._hear_all(hear, writer)
        except TimeoutError:
            self._lost = self._lost or "closed"
        except LostError as error:
            self._lost = self._lost or str(error)
        finally:
            writer.cancel()
        return self._lost or "closed"

    async def _hear_all(self, hear: Callable[[bytes], None], writer: "asyncio.Task[None]") -> None:
        try:
            while True:
                payload = self._incoming.open(await _frame(self._socket))
                if not self._is_dismissed:
                    hear(payload)
        except LostError:
            # The last message must arrive: the writer closes with a handshake that waits for it.
            if self._is_dismissed:
                await asyncio.wait({writer})
            raise
        except (ProofError, ValueError) as error:
            raise LostError(_one_line(error)) from error

    async def _write(self) -> None:
        try:
            while (payload := await self._queue.get()) is not None:
                await self._socket.send_bytes(self._outgoing.close(payload))
            await self._socket.close()
        except (OSError, RuntimeError) as error:  # aiohttp says so when it is closing
            self.drop(_one_line(error) or "closed the connection")

    def _put(self, payload: bytes | None) -> None:
        if self._lost is None and not self._is_dismissed:
            try:
                self._queue.put_nowait(payload)
            except asyncio.QueueFull:
                self.drop("does not read what it is sent")

    def _end_in(self, seconds: float) -> None:
        if self._limit is not None:
            # Over already, or just being so.
            with suppress(RuntimeError):
                self._limit.reschedule(asyncio.get_running_loop().time() + seconds)


async def _frame(socket: Socket) -> bytes:
    message: Any = await socket.receive()
    if message.type is WSMsgType.BINARY:
        return message.data
    if message.type is WSMsgType.TEXT:
        raise ProofError("sent text")
    if message.type is WSMsgType.ERROR:
        raise LostError(_one_line(message.data))
    raise LostError("closed the connection")


async def _send(socket: Socket, data: bytes) -> None:
    try:
        await socket.send_bytes(data)
    except OSError as error:
        raise LostError("closed the connection") from error


def _one_line(error: object) -> str:
    return " ".join(str(error).split())[:300]
