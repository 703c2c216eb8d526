"""The leader of a run's agents: lets members in, beats, and keeps the time of their group.

It runs in agent 0, whose own member joins like all others. The rules are in `group`; the leader's
state is in memory, and members find a leader that was started again by its name.
"""

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from aiohttp import web

from trainer.errors import TrainerError
from trainer.gathering.connection import PATH, Connection, LostError, prove_as_leader
from trainer.gathering.door import Door
from trainer.gathering.group import Group
from trainer.gathering.heartbeat import beats
from trainer.gathering.messages import (
    MAX_BYTES_OF_MEMBER,
    OF_MEMBER,
    Join,
    Offer,
    Ping,
    Pong,
    encode,
)
from trainer.gathering.rules import Rules, Snapshot
from trainer.gathering.seal import ProofError, Proofs, check_secret
from trainer.gathering.timings import Timings

Choose = Callable[[int, tuple[int, ...]], Awaitable[Mapping[str, Any]]]
_PING = encode(Ping())


@dataclass(eq=False)
class _Client:
    """A proven connection. `answered` is when it last showed that it reads."""

    connection: Connection
    host: str | None
    close_seconds: float
    answered: float
    proven: float
    has_joined: bool = False

    def send(self, payload: bytes) -> None:
        """As a `Peer` of the group."""
        self.connection.send(payload)

    def refuse(self, payload: bytes) -> None:
        """As a `Peer` of the group."""
        self.connection.dismiss(payload, self.close_seconds)


class Leader:
    """Serves from `start()` to `close()`.

    `own` is agent 0's offer, with which the others' are compared. `choose(generation, indices)`
    is awaited once before every generation; what it returns (JSON) goes to all, and so does the
    `TrainerError` that it raises. `port` 0 takes any free one; after `start()` the attribute says
    which. `address` None is every interface. `log` takes an event and keys, as structlog does.
    """

    def __init__(
        self, own: Offer, choose: Choose, *, secret: bytes, port: int = 0,
        address: str | None = "127.0.0.1", rules: Rules | None = None,
        timings: Timings | None = None, log: Any,
    ) -> None:  # fmt: skip
        check_secret(secret)
        self._choose, self._secret, self._log = choose, secret, log
        self._rules, self._timings = rules or Rules(), timings or Timings()
        self._group = Group(
            own, leader=secrets.token_hex(4), rules=self._rules, timings=self._timings,
            begin=self._begin, clock=_now,
        )  # fmt: skip
        self._door = Door(
            self._serve, address=address, port=port, seconds=self._timings.proof, log=log
        )
        self._clients: set[_Client] = set()
        self._outside: tuple[int, ...] = ()
        self._timer: asyncio.TimerHandle | None = None
        self._beating: asyncio.Task[None] | None = None
        self._choosing: asyncio.Task[None] | None = None
        self._is_closing = False
        self._is_empty = asyncio.Event()

    async def start(self) -> None:
        """Listen. Raises `ConfigError` for a port that cannot be used."""
        await self._door.open()
        self._beating = asyncio.create_task(self._beat())

    @property
    def port(self) -> int:
        """Where members find it."""
        return self._door.port

    @property
    def can_grow(self) -> bool:
        """Whether those who wait outside make an agreed stop worth while: more would train then."""
        return self._group.can_grow

    def snapshot(self) -> Snapshot:
        """Who is there now."""
        return self._group.snapshot()

    async def close(self) -> None:
        """Let all members read what they were told, then close."""
        self._is_closing = True
        self._door.shut()
        for task in (self._beating, self._choosing, self._timer):
            if task is not None:
                task.cancel()
        for client in self._clients:
            client.connection.dismiss(None, self._timings.close)
        while self._clients:  # each goes in that time
            self._is_empty.clear()
            await self._is_empty.wait()
        await self._door.close()

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.path != PATH:
            return web.Response(status=404)
        socket = web.WebSocketResponse(
            max_msg_size=MAX_BYTES_OF_MEMBER, compress=False, timeout=self._timings.close
        )
        await socket.prepare(request)
        try:
            proofs = await prove_as_leader(socket, self._secret)  # the door ends what takes long
        except LostError:
            self._turn_away(request, "left before it proved itself: has it another secret?")
        except ProofError as error:
            self._turn_away(request, str(error))
        else:
            self._door.admit(request)
            await self._attend(socket, proofs, request.remote)
        if request.transport is not None:
            request.transport.abort()
        return socket

    def _turn_away(self, request: web.BaseRequest, reason: str) -> None:
        self._door.tell(request.remote, reason)
        self._group.refusals.of_stranger(f"{request.remote or 'somebody'} {reason}")

    async def _attend(
        self, socket: web.WebSocketResponse, proofs: Proofs, host: str | None
    ) -> None:
        keys = {"outgoing": proofs.key_of_leader, "incoming": proofs.key_of_member}
        client = _Client(Connection(socket, **keys), host, self._timings.close, _now(), _now())
        self._clients.add(client)
        reason = "its agent failed to listen"
        try:
            if not self._is_closing:
                reason = await client.connection.listen(partial(self._hear, client))
        finally:
            self._clients.discard(client)
            self._is_empty.set()
            self._group.lost(client, reason)
            self._follow_up()

    def _hear(self, client: _Client, payload: bytes) -> None:
        message = OF_MEMBER.validate_json(payload)
        if isinstance(message, Pong):
            client.answered = _now()
            return
        if isinstance(message, Join):
            client.has_joined = True
            problem = self._group.join(client, message.offer)
            if problem is not None:
                self._log.warning("worker refused", host=client.host, reason=problem)
        else:
            self._group.hear(client, message)
        self._follow_up()

    async def _beat(self) -> None:
        async for late in beats(self._timings.ping):
            for client in list(self._clients):
                client.answered += late
                silent = _now() - client.answered
                if silent > self._timings.silence:
                    self._drop(client, f"not heard of for {silent:.1f} s")
                elif not client.has_joined and _now() - client.proven > self._timings.proof:
                    self._drop(client, "did not join")
                else:
                    client.send(_PING)

    def _drop(self, client: _Client, reason: str) -> None:
        self._group.lost(client, reason)
        client.connection.drop(reason)
        self._follow_up()

    def _begin(self, number: int, indices: tuple[int, ...]) -> None:
        if self._choosing is not None:
            self._choosing.cancel()
        self._choosing = asyncio.create_task(self._choose_for(number, indices))

    async def _choose_for(self, number: int, indices: tuple[int, ...]) -> None:
        what = f"holding the run for generation {number}"
        limit = asyncio.timeout(self._timings.choose)
        try:
            async with limit:
                chosen = await self._choose(number, indices)
            self._group.chosen(number, chosen)
        except TrainerError as error:
            self._group.fail(number, error)
        except Exception as error:
            self._log.exception("choosing failed")
            text = f"{what} failed: {type(error).__name__}: {error}"
            if limit.expired():
                text = f"{what} took longer than {self._timings.choose:g} s"
            self._group.fail(number, TrainerError(text))
        self._follow_up()

    def _follow_up(self) -> None:
        """After anything that happened: set the next timer, say who came to be outside."""
        if self._is_closing:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None
        if self._group.deadline is not None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_at(self._group.deadline, self._expire)
        before, self._outside = self._outside, self._group.outside
        if self._outside and self._outside != before:
            self._log.info("workers outside", indices=self._outside)

    def _expire(self) -> None:
        try:
            self._group.expire()
        except Exception as error:
            self._log.exception("gathering failed")
            self._group.refuse_all(TrainerError(f"gathering failed: {error!r}"))
        self._follow_up()


def _now() -> float:
    return asyncio.get_running_loop().time()
