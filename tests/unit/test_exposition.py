"""The metrics page over real HTTP: what it serves, how often it renders, what clients can hold."""

import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from http.client import HTTPConnection, HTTPResponse

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.parser import text_string_to_metric_families

from trainer.errors import ConfigError
from trainer.metrics import Metrics, MetricsServer, PortInUseError
from trainer.metrics.page import MOST_CLIENTS, Page

Start = Callable[..., MetricsServer]


class Clock:
    """Seconds that pass only when told."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Probe:
    """A collector that counts its renderings and does what it is told in them."""

    def __init__(self, during: Callable[[], object] = lambda: None, size: int = 1) -> None:
        self.num_renderings = 0
        self._during, self._size = during, size

    def collect(self) -> Iterator[GaugeMetricFamily]:
        self.num_renderings += 1
        self._during()
        family = GaugeMetricFamily("probe", "Says how often it was asked.", labels=["n"])
        for number in range(self._size):
            family.add_metric([str(number)], self.num_renderings)
        yield family


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts servers on free ports of the loopback and closes them."""
    with ExitStack() as stack:

        def start_one(registry: CollectorRegistry, **options: object) -> MetricsServer:
            server = MetricsServer(registry, port=0, **options)  # type: ignore[arg-type]
            stack.callback(server.close)
            server.start()
            return server

        yield start_one


def registry_of(*collectors: Probe) -> CollectorRegistry:
    registry = CollectorRegistry()
    for collector in collectors:
        registry.register(collector)
    return registry


def ask(server: MetricsServer, path: str = "/metrics", method: str = "GET") -> HTTPResponse:
    with closing(HTTPConnection("127.0.0.1", server.port, timeout=10)) as connection:
        connection.request(method, path)
        response = connection.getresponse()
        response.body = response.read()  # type: ignore[attr-defined]
        return response


def body(response: HTTPResponse) -> bytes:
    return response.body  # type: ignore[attr-defined, no-any-return]


def dial(server: MetricsServer, sent: bytes = b"", source: str = "127.0.0.1") -> socket.socket:
    client = socket.create_connection(("127.0.0.1", server.port), 10, (source, 0))
    client.sendall(sent)
    return client


def all_of(client: socket.socket) -> bytes:
    """What the server still says until it ends the connection."""
    chunks = []
    try:
        while chunk := client.recv(65536):
            chunks.append(chunk)
    except ConnectionResetError:
        pass
    return b"".join(chunks)


def wait_until(condition: Callable[[], bool], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def threads_of(name: str) -> int:
    """Threads with this in their name; those of an earlier test may need a moment to end."""
    return sum(name in thread.name for thread in threading.enumerate())


# --- what is served


def test_the_page_parses_and_holds_the_metrics(start: Start) -> None:
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    metrics.steps.inc(3)
    metrics.step_duration_seconds.observe(0.02)
    response = ask(start(registry))
    families = {f.name: f for f in text_string_to_metric_families(body(response).decode())}
    assert response.status == 200
    assert response.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert families["trainer_steps"].samples[0].value == 3
    assert families["trainer_step_duration_seconds"].type == "histogram"


def test_created_series_are_left_out(start: Start) -> None:
    registry = CollectorRegistry()
    Metrics(registry)
    assert b"_created" not in body(ask(start(registry)))
    assert any(s.name.endswith("_created") for f in registry.collect() for s in f.samples)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/metrics", 200),
        ("GET", "/metrics?name=x", 200),
        ("HEAD", "/metrics", 200),
        ("GET", "/", 404),
        ("GET", "/metrics/", 404),
        ("GET", "/metricsx", 404),
        ("HEAD", "/x", 404),
        ("POST", "/metrics", 501),
        ("DELETE", "/metrics", 501),
    ],
)
def test_only_get_and_head_of_one_path(start: Start, method: str, path: str, status: int) -> None:
    assert ask(start(registry_of(Probe())), path, method).status == status


def test_head_has_the_headers_and_no_body(start: Start) -> None:
    server = start(registry_of(Probe()), clock=Clock())
    head = ask(server, method="HEAD")
    assert head.headers["Content-Length"] == str(len(body(ask(server))))
    with dial(server, b"HEAD /metrics HTTP/1.1\r\n\r\n") as client:
        assert all_of(client).endswith(b"\r\n\r\n")


@pytest.mark.parametrize("path", ["/metrics", "/absent"])
def test_versions_are_not_told(start: Start, path: str) -> None:
    response = ask(start(registry_of(Probe())), path)
    assert response.headers["Server"].strip() == "trainer"
    assert b"Python" not in str(response.headers).encode() + body(response)


def test_nothing_is_logged_for_a_request(
    start: Start, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    server = start(registry_of(Probe()))
    with caplog.at_level(logging.INFO):
        for path in ("/metrics", "/absent"):
            ask(server, path)
        with dial(server, b"rubbish\r\n\r\n") as client:
            all_of(client)
    assert capfd.readouterr() == ("", "")
    assert not caplog.records


# --- rendering


def test_f58_200_scrapes_render_once_a_second(start: Start) -> None:
    clock, probe = Clock(), Probe()
    server = start(registry_of(probe), clock=clock)
    with ThreadPoolExecutor(8) as pool:
        for second in (0.0, 0.99, 1.0, 1.5, 2.0):
            clock.now = second
            answers = list(pool.map(lambda _: ask(server).status, range(40)))
            assert answers == [200] * 40
    assert probe.num_renderings == 3


def test_f58_scrapers_that_come_together_wait_for_one_rendering(start: Start) -> None:
    may_render = threading.Event()
    probe = Probe(during=lambda: may_render.wait(10))
    server = start(registry_of(probe), clock=Clock())
    with ThreadPoolExecutor(8) as pool:
        scrapes = [pool.submit(ask, server) for _ in range(8)]
        wait_until(lambda: probe.num_renderings == 1)
        assert not any(scrape.done() for scrape in scrapes)
        may_render.set()
        pages = {body(scrape.result()) for scrape in scrapes}
    assert probe.num_renderings == len(pages) == 1


def test_only_who_has_come_twice_is_waited_for(start: Start) -> None:
    """As docs/runbook.md says of runs that fail at once."""
    told: list[float] = []
    server = start(registry_of(Probe()), clock=Clock())
    body(ask(server))
    server.await_last_scrape(told.append)
    assert not told
    body(ask(server))
    # A scrape is noted after its answer.
    wait_until(lambda: server.await_last_scrape(told.append) or told)


def test_the_last_scrape_has_what_was_counted_last(start: Start) -> None:
    server = start(registry_of(Probe()), clock=Clock())
    before = body(ask(server))
    server.await_last_scrape()
    assert body(ask(server)) != before


class Scrapes:
    """Scrapes of one server at times of a clock, by clients that are told by their addresses."""

    def __init__(self, start: Start) -> None:
        self.clock = Clock()
        self.server = start(registry_of(Probe()), clock=self.clock)
        self.told: list[float] = []

    def at(self, **seconds_by: float) -> None:
        for client, seconds in seconds_by.items():
            self.clock.now = seconds
            self.by(client)

    def by(self, client: str) -> None:
        # Until the connection's end: before it, the scrape is noted.
        source = {"a": "127.0.0.1", "b": "127.0.0.2"}[client]
        with dial(self.server, b"GET /metrics HTTP/1.1\r\n\r\n", source) as connection:
            assert b"probe" in all_of(connection)

    def begin_to_wait(self, pool: ThreadPoolExecutor) -> Future[None]:
        last = pool.submit(self.server.await_last_scrape, self.told.append)
        wait_until(lambda: bool(self.told) or last.done())
        return last


def test_each_of_two_scrapers_gets_the_last_values(start: Start) -> None:
    """As a pair of Prometheus servers scrapes, two seconds apart."""
    scrapes = Scrapes(start)
    scrapes.at(a=0, b=2)
    scrapes.at(a=15, b=17)
    with ThreadPoolExecutor(1) as pool:
        last = scrapes.begin_to_wait(pool)
        assert scrapes.told == [22.5]
        scrapes.by("a")
        with pytest.raises(TimeoutError):
            last.result(0.3)
        scrapes.by("b")
        last.result(5)


def test_who_came_once_in_between_shortens_no_wait_and_is_not_waited_for(start: Start) -> None:
    scrapes = Scrapes(start)
    scrapes.at(a=0)
    scrapes.at(a=15, b=16)
    with ThreadPoolExecutor(1) as pool:
        last = scrapes.begin_to_wait(pool)
        assert scrapes.told == [22.5]
        scrapes.by("b")
        with pytest.raises(TimeoutError):
            last.result(0.3)
        scrapes.by("a")
        last.result(5)


def test_who_missed_a_scrape_is_waited_for_and_who_is_gone_is_not(start: Start) -> None:
    scrapes = Scrapes(start)
    scrapes.at(a=0)
    scrapes.at(a=15)
    scrapes.clock.now = 61
    scrapes.server.await_last_scrape(scrapes.told.append)
    assert scrapes.told == []
    scrapes.clock.now = 44
    with ThreadPoolExecutor(1) as pool:
        last = scrapes.begin_to_wait(pool)
        assert scrapes.told == [22.5]
        scrapes.by("a")
        last.result(5)


def test_of_many_clients_the_newest_are_remembered() -> None:
    page = Page(CollectorRegistry(), Clock())
    told: list[float] = []
    for _ in range(2):
        for number in range(MOST_CLIENTS + 1):
            page.note_scrape(str(number))
    page.await_scrape(0, told.append)
    assert told == []
    page.note_scrape(str(MOST_CLIENTS))
    page.await_scrape(0, told.append)
    assert told == [0]


def test_a_failing_collector_is_500_said_once_a_second_and_heals(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    broken = threading.Event()
    broken.set()
    clock = Clock()
    server = start(registry_of(Probe(during=lambda: 1 / (not broken.is_set()))), clock=clock)
    assert [ask(server).status for _ in range(3)] == [500] * 3
    assert len(caplog.records) == 1
    broken.clear()
    clock.now = 1.0
    assert ask(server).status == 200


# --- clients


@pytest.mark.parametrize("sent", [b"", b"GET /metr", b"GET /metrics HTTP/1.1\r\nHost: x\r\n"])
def test_slow_clients_do_not_block_a_good_one(start: Start, sent: bytes) -> None:
    server = start(registry_of(Probe()))
    with ExitStack() as stack:
        for _ in range(15):
            stack.enter_context(dial(server, sent))
        assert ask(server).status == 200


def test_f58_more_connections_than_allowed_are_refused(start: Start) -> None:
    server = start(registry_of(Probe()), max_connections=4)
    with ExitStack() as stack:
        for _ in range(4):
            stack.enter_context(dial(server, b"GET"))
        wait_until(lambda: threads_of("metrics-client") == 4)
        for _ in range(20):
            answer = all_of(stack.enter_context(dial(server)))
            assert answer.startswith(b"HTTP/1.0 503 ")
        assert threads_of("metrics-client") == 4
    wait_until(lambda: ask(server).status == 200)


def test_a_client_that_drips_bytes_loses_its_slot(start: Start) -> None:
    server = start(registry_of(Probe()), max_connections=1, client_seconds=0.4)
    began = time.monotonic()
    with dial(server, b"GET /metrics HTTP/1.1\r\n") as client:
        client.settimeout(0.05)
        while time.monotonic() - began < 10:
            try:
                client.sendall(b"a")
                if client.recv(1) == b"":
                    break
            except TimeoutError:
                continue
            except OSError:
                break
    assert 0.3 < time.monotonic() - began < 3
    wait_until(lambda: ask(server).status == 200)


def test_a_client_that_does_not_read_loses_its_slot(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    server = start(registry_of(Probe(size=300_000)), max_connections=1, client_seconds=3)
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", server.port))
        client.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
        wait_until(lambda: ask(server, "/healthz").status == 503, 30)
        wait_until(lambda: ask(server, "/healthz").status == 200, 30)
    assert not caplog.records


def test_a_client_that_hangs_up_is_no_error(
    start: Start, capfd: pytest.CaptureFixture[str]
) -> None:
    server = start(registry_of(Probe(size=100_000)))
    for sent in (b"", b"GET /metrics HTT", b"GET /metrics HTTP/1.1\r\n\r\n"):
        dial(server, sent).close()
    assert ask(server).status == 200
    assert capfd.readouterr() == ("", "")


def send_100_megabytes(client: socket.socket, piece: bytes) -> None:
    for _ in range(100):  # far more than the kernel buffers on the way
        client.sendall(piece * (1_000_000 // len(piece)))


@pytest.mark.parametrize(
    ("first", "piece"),
    [(b"GET /", b"a"), (b"GET / HTTP/1.1\r\nA: ", b"a"), (b"GET / HTTP/1.1\r\n", b"A: a\r\n")],
)
def test_requests_are_bounded(start: Start, first: bytes, piece: bytes) -> None:
    server = start(registry_of(Probe()))
    with dial(server, first) as client, pytest.raises(ConnectionError):
        send_100_megabytes(client, piece)
    assert ask(server).status == 200


def test_a_request_that_is_too_long_is_told_so(start: Start) -> None:
    with dial(start(registry_of(Probe())), b"GET / HTTP/1.1\r\nA: " + b"a" * 16366) as client:
        assert all_of(client).startswith(b"HTTP/1.0 431 ")


@pytest.mark.parametrize(
    "sent", [b"\r\n\r\n", b"\0\xff\xfe\r\n\r\n", b"GET\r\n\r\n", b"GET /metrics HTTP/9.9\r\n\r\n"]
)
def test_rubbish_is_not_answered_with_the_page(start: Start, sent: bytes) -> None:
    server = start(registry_of(Probe()))
    with dial(server, sent) as client:
        client.shutdown(socket.SHUT_WR)
        assert b"probe" not in all_of(client)
    assert ask(server).status == 200


# --- life


def test_f57_a_taken_port_names_the_way_out(start: Start) -> None:
    taken = start(registry_of(Probe()))
    other = MetricsServer(CollectorRegistry(), port=taken.port)
    with pytest.raises(PortInUseError, match=rf"port {taken.port} .* is in use.*0 for any free"):
        other.start()
    other.close()
    assert ask(taken).status == 200


@pytest.mark.parametrize("address", ["192.0.2.1", "::ffff:192.0.2.1"])
def test_an_address_of_another_host(address: str) -> None:
    with pytest.raises(ConfigError, match=f"cannot be served on {address}"):
        MetricsServer(CollectorRegistry(), port=0, address=address).start()


@pytest.mark.parametrize("port", [-1, 65536])
def test_a_port_that_does_not_exist(port: int) -> None:
    with pytest.raises(ConfigError, match=f"metrics.port is {port}"):
        MetricsServer(CollectorRegistry(), port=port)


def test_the_default_is_not_reachable_from_outside(start: Start) -> None:
    inside = start(registry_of(Probe()))
    outside = start(registry_of(Probe()), address="0.0.0.0")
    # Another address of this host stands for those that others see.
    socket.create_connection(("127.0.0.2", outside.port), timeout=10).close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.2", inside.port), timeout=10)


def test_close_frees_the_port_and_ends_connections_and_threads() -> None:
    server = MetricsServer(registry_of(Probe()), port=0)
    server.start()
    with dial(server, b"GET") as client:
        wait_until(lambda: threads_of("metrics-client") == 1)
        began = time.monotonic()
        server.close()
        server.close()
        assert all_of(client) == b""
        assert time.monotonic() - began < 2
    wait_until(lambda: not threads_of("metrics") and not threads_of("metrics-client"))
    with pytest.raises(ConnectionRefusedError):
        dial(server)
    again = MetricsServer(registry_of(Probe()), port=server.port)
    again.start()
    again.close()


def test_starting_twice_is_a_mistake(start: Start) -> None:
    with pytest.raises(RuntimeError, match="started already"):
        start(registry_of(Probe())).start()
