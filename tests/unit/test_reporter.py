"""Rows on their way to a service that is slow, away, or refuses."""

import threading
from collections.abc import Callable, Sequence

import pytest

from trainer.callbacks import reporter as module
from trainer.callbacks.reporter import Reporter, Row, describe
from trainer.errors import ConfigError

ROWS = [Row(step, 0.0, {"loss": 1.0 / step}) for step in range(1, 8)]
DEADLINE = 20.0


class Service:
    """Keeps what it is given; `connect` and `send` do first what a test wants."""

    name = "service"

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.is_finished = False
        self.on_connect: Callable[[], None] = lambda: None
        self.on_send: Callable[[], None] = lambda: None
        self.kept = 0

    def connect(self) -> None:
        self.on_connect()

    def send(self, rows: Sequence[Row]) -> None:
        self.on_send()
        self.rows.extend(rows)

    def has_kept(self, row: Row) -> bool:
        return row.step <= self.kept

    def finish(self) -> None:
        self.is_finished = True


def fails(times: int, error: Exception) -> Callable[[], None]:
    """Raises so often, and then no more."""
    left = iter(range(times))

    def call() -> None:
        if next(left, None) is not None:
            raise error

    return call


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Service:
    monkeypatch.setattr(module, "_RETRY_SECONDS", 0.01)
    return Service()


def test_all_rows_come_in_order_and_then_the_end(service: Service) -> None:
    reporter = Reporter(service)
    reporter.start()
    reporter.add(ROWS[:3])
    reporter.add(ROWS[3:])
    reporter.end()
    assert service.rows == ROWS
    assert service.is_finished


def test_a_service_that_comes_back_gets_all_and_the_log_one_warning(
    service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    service.on_connect = fails(2, OSError("away"))
    service.on_send = fails(3, OSError("away"))
    done = threading.Event()
    reporter = Reporter(service)
    reporter.start()
    reporter.add(ROWS)
    service.on_send = lambda send=service.on_send: (send(), done.set())[0]
    assert done.wait(DEADLINE)
    reporter.end()
    assert service.rows == ROWS
    assert service.is_finished


def test_what_a_service_refuses_at_the_start_ends_the_run(service: Service) -> None:
    service.on_connect = fails(1, ConfigError("no such key"))
    with pytest.raises(ConfigError, match="no such key"):
        Reporter(service).start()


def test_rows_that_are_refused_later_are_left_out(service: Service) -> None:
    reporter = Reporter(service)
    reporter.start()
    service.on_send = fails(1, ConfigError("no such metric"))
    reporter.add(ROWS[:1])
    reporter.add(ROWS[1:])
    reporter.end()
    assert service.rows in ([], ROWS[1:])  # one batch, or two
    assert service.is_finished


def test_no_password_is_logged() -> None:
    error = OSError("POST https://me:secret@host/api failed, see https://host/help")
    assert describe(error) == "OSError: POST https://host/api failed, see https://host/help"


def test_what_is_not_kept_waits_and_a_later_life_sends_it(service: Service) -> None:
    reporter = Reporter(service)
    reporter.start()
    reporter.add(ROWS)
    reporter.end()
    assert reporter.waiting == ROWS
    service.kept = 3
    assert reporter.waiting == ROWS[3:]
    service.kept = 7
    assert reporter.waiting == []


def test_a_service_that_stays_away_is_given_up_at_the_end(service: Service) -> None:
    service.on_connect = fails(10**9, OSError("away"))
    reporter = Reporter(service, most_rows=4)
    reporter.start()
    reporter.add(ROWS)
    reporter.end()
    assert (service.rows, service.is_finished) == ([], False)
    assert reporter.waiting == ROWS[3:]
