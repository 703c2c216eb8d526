"""A proxy before an HTTP server that breaks chosen requests, and remembers which.

It runs on a thread of the test's process; the processes under test reach it by its port.
"""

import asyncio
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from typing import Literal

from aiohttp import ClientSession, ClientTimeout, DummyCookieJar, web

START_SECONDS = 30
_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "te", "trailer", "upgrade", "host"}

Kind = Literal[
    "status", "refuse", "cut_upload", "corrupt_upload", "lose_reply", "cut", "corrupt", "stall",
    "slow", "narrow", "partial",
]  # fmt: skip


@dataclass
class Fault:
    """What happens to requests whose `METHOD /path?query name` holds `pattern`.

    `name` is that of the object that a simple upload sends; it stands in the body's first bytes.

    status      is answered with `value`, an HTTP status
    partial     is answered as a resumable upload of which `value` bytes were kept
    refuse      the connection is reset before the request is forwarded
    cut_upload  the connection is reset after `value` bytes of the request's body
    corrupt_upload  one bit in the middle of the request's body is flipped
    lose_reply  is done, and the connection is reset in place of the answer
    cut         the connection is reset in the middle of the answer's body
    corrupt     one bit of the answer's body is flipped
    stall       is done, and not a byte of the answer comes before the client leaves
    slow        `value` seconds pass before the request is forwarded
    narrow      the answer's body comes at `value` bytes a second

    The first `skip` matching requests are left alone, the next `times` are hit.
    """

    kind: Kind
    pattern: str
    value: float = 0
    skip: int = 0
    times: int = 1
    seen: int = 0

    def hits(self, request: str) -> bool:
        """Whether it fires for this request; counts it."""
        if not re.search(self.pattern, request):
            return False
        self.seen += 1
        return self.skip < self.seen <= self.skip + self.times


@dataclass
class FaultProxy:
    """Where it listens; faults to come; (kind, request) of those that fired; all requests."""

    target: str
    port: int = 0
    faults: list[Fault] = field(default_factory=list)
    fired: list[tuple[Kind, str]] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def num_fired(self, kind: Kind) -> int:
        """How often faults of a kind fired."""
        return sum(fired == kind for fired, _ in self.fired)

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Forward a request, or break it."""
        line = f"{request.method} {request.path_qs}"
        cuts = [fault for fault in self.faults if fault.kind == "cut_upload"]
        body = await _first_bytes(request, max((int(cut.value) for cut in cuts), default=0))
        named = f"{line} {_uploaded_name(body)}"
        fault = next((cut for cut in cuts if cut.hits(named)), None)
        if fault is not None:
            line = named
        else:
            body += await request.content.read()
            line += f" {_uploaded_name(body)}" if "uploadType=multipart" in line else ""
            others = (fault for fault in self.faults if fault.kind != "cut_upload")
            fault = next((fault for fault in others if fault.hits(line)), None)
        self.requests.append(line)
        if fault is not None:
            self.fired.append((fault.kind, line))
        match fault and fault.kind:
            case "status":
                return web.json_response({"error": {"message": "fault"}}, status=int(fault.value))
            case "partial":
                kept = {"Range": f"bytes=0-{int(fault.value) - 1}"} if fault.value else {}
                return web.Response(status=308, headers=kept)
            case "refuse":
                return _reset(request)
            case "cut_upload":
                return _reset(request)
            case "corrupt_upload":
                body = _flipped(body)
            case "slow":
                await asyncio.sleep(fault.value)
        return await self._forward(request, body, fault)

    async def _forward(
        self, request: web.BaseRequest, body: bytes, fault: Fault | None
    ) -> web.StreamResponse:
        headers = {k: v for k, v in request.headers.items() if k.lower() not in _HOP_BY_HOP}
        headers["Host"] = self.target.removeprefix("http://")
        async with (
            ClientSession(
                auto_decompress=False, cookie_jar=DummyCookieJar(), timeout=ClientTimeout(None)
            ) as session,
            session.request(
                request.method, self.target + request.raw_path, headers=headers,
                data=BytesIO(body), allow_redirects=False,
            ) as answer,
        ):  # fmt: skip
            content = await answer.read()
            kept = {k: v for k, v in answer.headers.items() if k.lower() not in _HOP_BY_HOP}
        if "Location" in kept:  # of an upload session: keep the client on this side
            kept["Location"] = re.sub(
                r"^http://[^/]+", f"http://127.0.0.1:{self.port}", kept["Location"]
            )
        match fault and fault.kind:
            case "lose_reply":
                return _reset(request)
            case "stall":
                # Ends when the client closes the connection: its handler is cancelled.
                await asyncio.get_running_loop().create_future()
            case "corrupt" if content:
                content = _flipped(content)
        response = web.StreamResponse(status=answer.status, headers=kept)
        response.content_length = len(content)
        await response.prepare(request)
        if fault and fault.kind == "cut":
            await response.write(content[: len(content) // 2])
            return _reset(request, response)
        rate = int(fault.value) if fault and fault.kind == "narrow" else 0
        pieces = range(0, len(content), max(rate // 10, 1)) if rate else ()
        for start in pieces:
            await response.write(content[start : start + rate // 10])
            await asyncio.sleep(0.1)
        await response.write(b"" if rate else content)
        await response.write_eof()
        return response


def _flipped(data: bytes) -> bytes:
    changed = bytearray(data)
    changed[len(data) // 2] ^= 1
    return bytes(changed)


async def _first_bytes(request: web.BaseRequest, count: int) -> bytes:
    try:
        return await request.content.readexactly(count)
    except asyncio.IncompleteReadError as whole:
        return whole.partial


def _uploaded_name(body: bytes) -> str:
    """The object's name in the first part of a multipart upload."""
    found = re.search(rb'"name": *"([^"]+)"', body[:4096])
    return found[1].decode() if found else ""


def _reset(
    request: web.BaseRequest, response: web.StreamResponse | None = None
) -> web.StreamResponse:
    if request.transport is not None:
        request.transport.abort()
    return response or web.Response()


@contextmanager
def fault_proxy(target: str) -> Iterator[FaultProxy]:
    """A proxy in front of `target`, http://HOST:PORT, while the context lasts."""
    proxy = FaultProxy(target)
    is_up = threading.Event()
    loop = asyncio.new_event_loop()

    async def serve() -> None:
        server = web.ServerRunner(
            web.Server(proxy.handle, handler_cancellation=True), shutdown_timeout=1
        )
        await server.setup()
        site = web.TCPSite(server, "127.0.0.1", 0)
        await site.start()
        proxy.port = server.addresses[0][1]
        is_up.set()
        await stop.wait()
        await server.cleanup()

    stop = asyncio.Event()
    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),), daemon=True)
    thread.start()
    if not is_up.wait(START_SECONDS):
        raise RuntimeError("the proxy did not start")
    try:
        yield proxy
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(START_SECONDS)
        loop.close()
