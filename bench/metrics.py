"""What metrics cost: a training whose page is asked for 100 times a second, and the page's bytes.

One training by `trainer train`, as in bench.loop, takes turns with itself: some epochs while a
client asks, some while none does. The page is that of worker 0 of eight on this machine.
"""

import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from bench.pairs import Result, median_ratio, noise_floor, run_alone, take_turns
from bench.turns import TurnTaker

SCRAPES_PER_SECOND = 100
ROUNDS, EPOCHS = 8, 2  # of a turn
WORKERS = 8
MOST_PAGE_BYTES = 64_000
PATIENCE_SECONDS = 300.0
_ROOT = Path(__file__).resolve().parents[1]


class FifoTurns(TurnTaker):
    """A turn taker of a worker that an agent starts, which inherits no pipes: by two FIFOs."""

    def __init__(self, go: str, done: str, epochs: int) -> None:
        super().__init__(os.open(go, os.O_RDONLY), os.open(done, os.O_WRONLY), epochs)


def measure_scrapes() -> list[Result]:
    """Seconds of a turn while the page is asked for / while nobody asks."""
    with tempfile.TemporaryDirectory(prefix="bench-metrics-") as name:
        folder = Path(name)
        for fifo in ("go", "done"):
            os.mkfifo(folder / fifo)
        callback = {
            "name": "bench.metrics:FifoTurns", "stateless": True,
            "args": {"go": f"{name}/go", "done": f"{name}/done", "epochs": EPOCHS},
        }  # fmt: skip
        settings = (
            f"run.dir={name}/run", "metrics.port=0", "train.epochs=1000000", "data.validation=null",
            f"checkpoint.every_epochs={EPOCHS}", f"callbacks={json.dumps([callback])}",
        )  # fmt: skip
        with _training(folder, "fashion_mnist", settings) as log:
            # Each end waits for the other: the worker opens them in this order.
            go = os.open(folder / "go", os.O_WRONLY)
            with (folder / "done").open(encoding="ascii") as done:
                port = int(_event(log, "metrics")["url"].rpartition(":")[2].split("/")[0])
                asked: list[float] = []

                def turn() -> float:
                    os.write(go, b"g")
                    return float(done.readline())

                def scraped() -> float:
                    with _scraping(port) as counts:
                        seconds = turn()
                    asked.append(counts[0] / seconds)
                    return seconds

                turns = {"nobody": turn, "nobody again": turn, "scraped": scraped}
                seconds = take_turns(turns, rounds=ROUNDS, warm_ups=2)
            os.close(go)
    noise = noise_floor(seconds["nobody"], seconds["nobody again"])
    ratio = median_ratio(seconds["scraped"], seconds["nobody"])
    details = {"scrapes": f"{median(asked):.0f} /s", "turn": f"{median(seconds['nobody']):.2f} s"}
    return [Result("metrics_scrapes", ratio, noise, round(1 + noise, 4), "lower", details)]


def measure_page() -> list[Result]:
    """Bytes of worker 0's page, when all of eight train, / 64 kB."""
    with tempfile.TemporaryDirectory(prefix="bench-metrics-") as name:
        folder = Path(name)
        port = _free_ports(WORKERS)
        settings = (
            f"run.dir={name}/run", f"metrics.port={port}", "data.batch_size=64", "data.streams=8",
            "train.epochs=1000000", "export.formats=[]",
        )  # fmt: skip
        with _training(folder, "digits", settings, f"--workers={WORKERS}") as log:
            _event(log, "first step")
            time.sleep(5)  # for a checkpoint and an epoch, whose series come later
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
                page = answer.read()
    series = sum(not line.startswith(b"#") for line in page.splitlines())
    ratio = len(page) / MOST_PAGE_BYTES
    return [
        Result(
            "metrics_page",
            ratio,
            0.0,
            1.0,
            "lower",
            {"page": f"{len(page)} bytes", "series": series},
        )
    ]


@contextmanager
def _training(folder: Path, config: str, settings: tuple[str, ...], *more: str) -> Iterator[Path]:
    """`trainer train`, until the context ends; yields the file of its log."""
    log = folder / "log.jsonl"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "trainer", "train", f"--config={config}", "--json", *more,
             *(f"--set={setting}" for setting in settings)],
            stdout=output, stderr=subprocess.STDOUT, cwd=_ROOT, start_new_session=True,
        )  # fmt: skip
        try:
            yield log
        finally:
            process.terminate()
            process.terminate()  # at once: nothing of it is wanted
            process.wait(60)


def _event(log: Path, name: str) -> dict[str, Any]:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        for line in log.read_text(encoding="utf-8").splitlines():
            if line.startswith("{") and line.endswith("}"):
                event: dict[str, Any] = json.loads(line)
                if event.get("event") == name:
                    return event
        time.sleep(0.1)
    raise TimeoutError(f"no {name!r}:\n{log.read_text(encoding='utf-8')[-2000:]}")


@contextmanager
def _scraping(port: int) -> Iterator[list[int]]:
    """A client that asks so often; yields how often it was answered."""
    counts, is_over = [0], threading.Event()

    def ask() -> None:
        due = time.monotonic()
        while not is_over.wait(max(due - time.monotonic(), 0)):
            due += 1 / SCRAPES_PER_SECOND
            counts[0] += _is_answered(port)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield counts
    finally:
        is_over.set()
        thread.join()


def _is_answered(port: int) -> bool:
    """Asks once, as cheaply as Python can: the client takes this machine's time, too."""
    with socket.socket() as connection:
        connection.settimeout(10)
        connection.connect(("127.0.0.1", port))
        connection.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
        first = piece = connection.recv(1 << 17)
        while piece:
            piece = connection.recv(1 << 17)
    return first.startswith(b"HTTP/1.0 200")


def _free_ports(count: int) -> int:
    """The first of so many ports in a row that are free just now."""
    for first in range(19_400, 29_400, count):
        try:
            for port in range(first, first + count):
                with socket.create_server(("127.0.0.1", port)):
                    pass
        except OSError:
            continue
        return first
    raise RuntimeError("no ports are free")


MEASURES = {"metrics_scrapes": measure_scrapes, "metrics_page": measure_page}

if __name__ == "__main__":
    run_alone(MEASURES, about=__doc__)
