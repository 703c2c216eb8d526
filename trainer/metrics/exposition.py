"""The page that Prometheus scrapes, /metrics, and those that probes ask: /healthz and /readyz.

However many scrapers come, the page is rendered at most once a second; however slow or many the
clients are, they hold a bounded number of threads for a bounded time.
"""

import errno
import logging
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http import HTTPStatus
from socketserver import BaseRequestHandler, TCPServer, ThreadingMixIn
from typing import Any

from prometheus_client import CollectorRegistry

from trainer.errors import ConfigError
from trainer.metrics.page import Page

MAX_REQUEST_BYTES = 16 * 1024
_PAGE_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_TEXT_TYPE = "text/plain; charset=utf-8"
_BUSY = b"HTTP/1.0 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n"

_log = logging.getLogger(__name__)


class PortInUseError(ConfigError):
    """The port of the metrics page is taken. Training can go on without the page."""


class MetricsServer:
    """Serves the metrics of `registry` from threads of its own, from `start()` to `close()`.

    `port` 0 takes any free one; after `start()` the attribute `port` says which. `address` is
    127.0.0.1 or, to be scraped from elsewhere, 0.0.0.0 or ::. A client must have sent its request
    and read the answer within `client_seconds`; `clock` (seconds) dates the rendered page.
    `is_ready` decides whether /readyz answers 200 or 503.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        *,
        port: int,
        address: str = "127.0.0.1",
        max_connections: int = 16,
        client_seconds: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
        is_ready: Callable[[], bool] = lambda: True,
    ) -> None:
        if not 0 <= port <= 65535:
            raise ConfigError(f"metrics.port is {port}: use 0 (any free one) to 65535")
        self.port = port
        self._address = address
        self._page = Page(registry, clock)
        self._is_ready = is_ready
        self._limits = (max_connections, client_seconds)
        self._server: _Server | None = None

    def start(self) -> None:
        """Listen. Raises `PortInUseError`, or `ConfigError` for an address that cannot be used."""
        if self._server is not None:
            raise RuntimeError("the metrics server was started already")
        try:
            self._server = _Server((self._address, self.port), self._page, *self._limits)
            self._server.is_ready = self._is_ready
        except OSError as error:
            raise _bind_error(error, self._address, self.port) from error
        self.port = self._server.server_address[1]
        serve = self._server.serve_forever
        threading.Thread(target=serve, args=(0.1,), name="metrics", daemon=True).start()

    def await_last_scrape(self, on_wait: Callable[[float], None] = lambda _: None) -> None:
        """Wait for one more scrape by each who scrapes: what was counted last is to be seen.

        Who comes every so many seconds is waited for half as long again, a minute at most;
        `on_wait` is told how long before that.
        """
        self._page.await_scrape(60.0, on_wait)

    def close(self) -> None:
        """Stop listening and drop open connections; harmless when not started."""
        server, self._server = self._server, None
        if server is not None:
            server.shutdown()
            server.server_close()


class _Server(ThreadingMixIn, TCPServer):
    allow_reuse_address = True
    request_queue_size = 64
    is_ready: Callable[[], bool]

    def __init__(
        self, address: tuple[str, int], page: Page, max_connections: int, client_seconds: float
    ) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self.page = page
        self._max_connections, self._client_seconds = max_connections, client_seconds
        self._deadlines: dict[socket.socket, float] = {}
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(max_connections, "metrics-client")
        super().__init__(address, _Handler)

    def process_request(self, *connection: Any) -> None:
        # By a thread that waits: to start one takes longer than to answer.
        self._pool.submit(self.process_request_thread, *connection)

    def server_close(self) -> None:
        super().server_close()
        self.drop_connections(float("inf"))
        self._pool.shutdown(wait=False)

    def get_request(self) -> tuple[socket.socket, Any]:
        try:
            return super().get_request()
        except OSError:
            # Out of file descriptors the waiting client stays readable: do not spin.
            time.sleep(0.1)
            raise

    def verify_request(self, request: Any, *_: Any) -> bool:
        with self._lock:
            if len(self._deadlines) < self._max_connections:
                self._deadlines[request] = time.monotonic() + self._client_seconds
                request.settimeout(self._client_seconds)
                return True
        with suppress(OSError):
            request.setblocking(False)
            request.send(_BUSY)
        return False

    def service_actions(self) -> None:
        # A time-out of single reads would let a client send a byte now and then for ever.
        self.drop_connections(time.monotonic())

    def drop_connections(self, now: float) -> None:
        """End the connections whose deadline is before `now`; their threads then see the end."""
        with self._lock:
            for request, deadline in self._deadlines.items():
                if deadline < now:
                    with suppress(OSError):
                        request.shutdown(socket.SHUT_RDWR)

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._deadlines.pop(request, None)
        super().shutdown_request(request)

    def handle_error(self, *_: Any) -> None:
        # A client that went away or was too slow; it must not fill the log.
        _log.debug("connection of a metrics client failed", exc_info=True)


class _Handler(BaseRequestHandler):
    """Answers one request, without `http.server`, which parses headers that nobody asks for.

    A scrape takes time from the training beside it: bench.metrics.
    """

    server: _Server

    def handle(self) -> None:
        head = self._read_head()
        if len(head) > MAX_REQUEST_BYTES:
            self._answer(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        elif _is_whole(head):
            self._answer_request(*head.split(b"\n", 1)[0].split())

    def _read_head(self) -> bytes:
        """The request up to its empty line, but at most one byte more than allowed."""
        head = b""
        while len(head) <= MAX_REQUEST_BYTES and not _is_whole(head):
            piece = self.request.recv(MAX_REQUEST_BYTES + 1 - len(head))
            if not piece:
                break
            head += piece
        return head

    def _answer_request(self, method: bytes = b"", target: bytes = b"", *version: bytes) -> None:
        path, is_head = target.partition(b"?")[0], method == b"HEAD"
        if not (len(version) == 1 and version[0].startswith(b"HTTP/1.")):
            self._answer(HTTPStatus.BAD_REQUEST)
        elif method not in (b"GET", b"HEAD"):
            self._answer(HTTPStatus.NOT_IMPLEMENTED)
        elif path == b"/metrics":
            self._answer(*self.server.page.get(), kind=_PAGE_TYPE, is_head=is_head)
            self.server.page.note_scrape(self.client_address[0])
        elif path == b"/healthz":
            self._answer(HTTPStatus.OK, b"ok\n", is_head=is_head)
        elif path == b"/readyz" and self.server.is_ready():
            self._answer(HTTPStatus.OK, b"training\n", is_head=is_head)
        elif path == b"/readyz":
            self._answer(HTTPStatus.SERVICE_UNAVAILABLE, b"not training\n", is_head=is_head)
        else:
            self._answer(HTTPStatus.NOT_FOUND, is_head=is_head)

    def _answer(
        self, status: HTTPStatus, body: bytes = b"", kind: str = _TEXT_TYPE, is_head: bool = False
    ) -> None:
        body = body or b"%d\n" % status
        head = (
            f"HTTP/1.0 {status:d} {status.phrase}\r\nServer: trainer\r\nContent-Type: {kind}\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        self.request.sendall(head.encode() + (b"" if is_head else body))


def _is_whole(head: bytes) -> bool:
    return b"\r\n\r\n" in head or b"\n\n" in head


def _bind_error(error: OSError, address: str, port: int) -> ConfigError:
    if error.errno == errno.EADDRINUSE:
        return PortInUseError(
            f"port {port} for metrics is in use: set metrics.port to another port, or to 0 for any "
            "free one"
        )
    return ConfigError(
        f"metrics cannot be served on {address}, port {port}: {error.strerror}: set metrics.port "
        "and the address to one of this host's"
    )
