"""Who may come in to the leader: those that prove themselves in time, and not too many others.

Counted from the moment that TCP connects: a client that is silent, or sends half a request, holds
a place for `seconds` at most, and when all places are taken the oldest one is freed.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from trainer.errors import ConfigError

MAX_UNPROVEN = 1024  # as many workers as may come at once
_TOLD_AGAIN_SECONDS = 60.0
_MAX_PEERS_TOLD = 1000

Serve = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class Door:
    """Listens, from `open()` to `close()`, and hands requests to `serve`.

    `port` 0 takes any free one; after `open()` the attribute says which. `address` None is
    every interface.
    """

    def __init__(
        self, serve: Serve, *, address: str | None, port: int, seconds: float,
        max_unproven: int = MAX_UNPROVEN, log: Any,
    ) -> None:  # fmt: skip
        self.port = port
        self._serve, self._address, self._seconds = serve, address, seconds
        self._max_unproven = max_unproven
        self._log = log
        self._unproven: dict[web.RequestHandler, asyncio.TimerHandle] = {}
        self._told: dict[str, float] = {}
        self._http: web.Server | None = None
        self._listener: asyncio.Server | None = None

    async def open(self) -> None:
        """Listen. Raises `ConfigError` for a port or address that cannot be used."""
        self._http = web.Server(self._serve, access_log=None)
        loop = asyncio.get_running_loop()
        try:
            self._listener = await loop.create_server(
                self._let_in, self._address, self.port, backlog=512
            )
        except OSError as error:
            raise ConfigError(
                f"workers cannot gather at port {self.port} of {self._address or 'this pod'}: "
                f"{error.strerror or error}: end what uses it, or choose another port"
            ) from error
        self.port = self._listener.sockets[0].getsockname()[1]

    def shut(self) -> None:
        """Let in nobody else."""
        if self._listener is not None:
            self._listener.close()

    async def close(self) -> None:
        """Stop listening and drop what is still connected."""
        self.shut()
        for handler in list(self._unproven):
            self._put_out(handler)
        if self._http is not None:
            await self._http.shutdown(0)

    def admit(self, request: web.BaseRequest) -> None:
        """The client of this request has proven itself."""
        timer = self._unproven.pop(request.protocol, None)
        if timer is not None:
            timer.cancel()

    def tell(self, peer: str | None, reason: str) -> None:
        """Log that a client was not let in; once a minute for each address."""
        peer, now = peer or "unknown", asyncio.get_running_loop().time()
        if now - self._told.get(peer, -_TOLD_AGAIN_SECONDS) < _TOLD_AGAIN_SECONDS:
            return
        if len(self._told) >= _MAX_PEERS_TOLD:
            self._told.clear()
        self._told[peer] = now
        self._log.warning("connection refused", peer=peer, reason=reason)

    def _let_in(self) -> web.RequestHandler:
        if self._http is None:
            raise RuntimeError("open() comes first")
        if len(self._unproven) >= self._max_unproven:
            self._put_out(next(iter(self._unproven)))
        handler = self._http()
        loop = asyncio.get_running_loop()
        self._unproven[handler] = loop.call_later(self._seconds, self._expire, handler)
        return handler

    def _expire(self, handler: web.RequestHandler) -> None:
        if handler.transport is not None:
            peer = handler.transport.get_extra_info("peername")
            self.tell(peer[0] if peer else None, f"proved nothing for {self._seconds:g} s")
        self._put_out(handler)

    def _put_out(self, handler: web.RequestHandler) -> None:
        self._unproven.pop(handler).cancel()
        # Soon: of connections that came just now, asyncio has not made the transport yet.
        asyncio.get_running_loop().call_soon(_abort, handler)


def _abort(handler: web.RequestHandler) -> None:
    # Not close(): a client that does not read would keep it open.
    if isinstance(handler.transport, asyncio.Transport):
        handler.transport.abort()
