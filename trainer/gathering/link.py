"""A member's way to the leader: found, proven, and heard of until it is lost."""

import asyncio
from dataclasses import dataclass, field

from aiohttp import (
    ClientConnectorDNSError,
    ClientConnectorError,
    ClientError,
    ClientSession,
    ClientWebSocketResponse,
    ClientWSTimeout,
    TCPConnector,
    ThreadedResolver,
    WSServerHandshakeError,
)
from aiohttp.abc import AbstractResolver

from trainer.gathering.connection import PATH, Connection, LostError, prove_as_member
from trainer.gathering.heartbeat import beats
from trainer.gathering.messages import MAX_BYTES_OF_LEADER, OF_LEADER, OfLeader, Ping, Pong, encode
from trainer.gathering.seal import ProofError, Proofs
from trainer.gathering.timings import Timings

_PONG = encode(Pong())


class UnreachedError(Exception):
    """Why an attempt to reach the leader failed, in words that follow its name."""


class Link:
    """One proven connection to the leader. `events` ends with None, when it is lost.

    `pinged` is when the leader last showed that it lives (0 until it does); `lost` says in words
    why it is no longer heard.
    """

    def __init__(
        self, session: ClientSession, socket: ClientWebSocketResponse, proofs: Proofs,
        timings: Timings,
    ) -> None:  # fmt: skip
        self._session, self._timings = session, timings
        keys = {"outgoing": proofs.key_of_member, "incoming": proofs.key_of_leader}
        self._connection = Connection(socket, **keys)
        self.events: asyncio.Queue[OfLeader | None] = asyncio.Queue()
        self.pinged = 0.0
        self.lost: str | None = None
        self._heard = _now()
        self._listening: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Listen, and answer, until the link is lost."""
        self._listening = asyncio.create_task(self._listen())

    def send(self, payload: bytes) -> None:
        """Tell the leader something."""
        self._connection.send(payload)

    async def close(self, payload: bytes | None = None) -> None:
        """Tell the leader a last thing, and close."""
        self._connection.dismiss(payload, self._timings.close)
        if self._listening is not None:
            await asyncio.wait({self._listening})

    async def _listen(self) -> None:
        watching = asyncio.create_task(self._watch())
        try:
            self.lost = await self._connection.listen(self._hear)
        finally:
            self.lost = self.lost or "the agent failed to listen"
            self.events.put_nowait(None)
            watching.cancel()
            await self._session.close()

    def _hear(self, payload: bytes) -> None:
        message = OF_LEADER.validate_json(payload)
        if isinstance(message, Ping):
            self.pinged = self._heard = _now()
            self._connection.send(_PONG)
        else:
            self.events.put_nowait(message)

    async def _watch(self) -> None:
        async for late in beats(self._timings.ping):
            self._heard += late
            silent = _now() - self._heard
            if silent > self._timings.silence:
                self._connection.drop(f"not heard of for {silent:.1f} s")


@dataclass(frozen=True)
class Way:
    """How the leader is found, and known."""

    host: str
    port: int
    secret: bytes = field(repr=False)
    timings: Timings
    resolver: AbstractResolver | None = None

    @property
    def name(self) -> str:
        """For people and URLs."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    async def open(self, seconds: float) -> Link:
        """Find the leader, and prove each to the other, once. Raises `UnreachedError`."""
        # A name is resolved at every attempt: a leader that was replaced has another address.
        resolver = self.resolver or ThreadedResolver()
        session = ClientSession(connector=TCPConnector(resolver=resolver, use_dns_cache=False))
        try:
            async with asyncio.timeout(seconds):
                socket = await session.ws_connect(
                    f"ws://{self.name}{PATH}",
                    max_msg_size=MAX_BYTES_OF_LEADER,
                    timeout=ClientWSTimeout(ws_close=self.timings.close),
                )
                proofs = await prove_as_member(socket, self.secret)
        except (ClientError, OSError, ProofError, LostError) as error:
            await session.close()
            raise UnreachedError(_explain(error, seconds)) from error
        except BaseException:
            await session.close()
            raise
        link = Link(session, socket, proofs, self.timings)
        link.start()
        return link


def _explain(error: Exception, seconds: float) -> str:
    match error:
        case TimeoutError():
            return f"did not answer within {seconds:.3g} s"
        case WSServerHandshakeError():
            return f"answered with HTTP status {error.status}, not as a leader of this version"
        case ClientConnectorDNSError():
            return "name does not resolve"
        case ClientConnectorError(os_error=ConnectionRefusedError()):
            return "connection refused"
        case ClientConnectorError(os_error=found):
            return (found.strerror or str(found)).lower()
        case _:
            return " ".join(str(error).split())[:300] or type(error).__name__


def _now() -> float:
    return asyncio.get_running_loop().time()
