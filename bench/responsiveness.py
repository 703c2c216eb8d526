"""Seconds until an agent answers, whatever its worker does: the worst of /metrics and of a signal.

Two agents on this machine train a small model; one thread asks agent 0 for its metrics every 20 ms,
from the start of its worker to the end. The worker imports TensorFlow, traces, trains, waits for
the other one, which is frozen, and is frozen itself. Heartbeats go the same way as the answers:
that no generation breaks meanwhile is looked at, too. At last both agents are told to stop.
"""

import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any

from bench.pairs import Result, run_alone

ROUNDS = 3
AIM_SECONDS = 1.0
FROZEN_SECONDS = 6.0
PATIENCE_SECONDS = 180.0
PHASES = ("import", "trace", "train", "wait", "hang")
SETTINGS = (
    "data.validation=null", "data.test=null", "export.formats=[]", "train.epochs=10000",
    "checkpoint.every_steps=200", "log.every_seconds=0.5",
)  # fmt: skip


class Agent:
    """One of two; its log is read as it is written."""

    def __init__(self, folder: Path, index: int, port: int, shared: dict[str, str]) -> None:
        self._log = folder / f"agent-{index}.jsonl"
        sets = (*SETTINGS, f"run.dir={folder}/run", f"metrics.port={port}")
        with self._log.open("w", encoding="utf-8") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "trainer", "train", "--config=fashion_mnist", "--json",
                 *(f"--set={setting}" for setting in sets)],
                stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
                env={**os.environ, **shared, "TRAINER_WORKER_INDEX": str(index)},
            )  # fmt: skip

    @property
    def worker(self) -> int:
        """The pid of its child."""
        pid = self.process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii")
        return int(children.split()[0])

    def events(self, name: str) -> list[dict[str, Any]]:
        """Those of one name so far."""
        lines = self._log.read_text(encoding="utf-8").splitlines()
        events = [json.loads(line) for line in lines if line[:1] == "{" and line[-1:] == "}"]
        return [event for event in events if event.get("event") == name]

    def wait_for(self, name: str, count: int = 1) -> None:
        """Until it has said so often enough; TimeoutError at the deadline."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while len(self.events(name)) < count:
            if time.monotonic() > deadline or self.process.poll() is not None:
                raise TimeoutError(f"no {name!r}:\n{self._log.read_text(encoding='utf-8')[-2000:]}")
            time.sleep(0.002)


class Asker:
    """Asks for a page again and again; `worst` is the longest answer since `begin`, by phase."""

    def __init__(self, url: str) -> None:
        self.worst: dict[str, float] = {}
        self._url, self._phase, self._is_over = url, PHASES[0], False
        self._thread = threading.Thread(target=self._ask, daemon=True)
        self._thread.start()

    def begin(self, phase: str) -> None:
        """What is asked from now on counts for this phase."""
        self._phase = phase

    def end(self) -> None:
        """Ask no more."""
        self._is_over = True
        self._thread.join(PATIENCE_SECONDS)

    def _ask(self) -> None:
        while not self._is_over:
            phase, started = self._phase, time.perf_counter()
            with urllib.request.urlopen(self._url, timeout=PATIENCE_SECONDS) as answer:
                answer.read()
            taken = time.perf_counter() - started
            self.worst[phase] = max(self.worst.get(phase, 0.0), taken)
            time.sleep(0.02)


def measure() -> list[Result]:
    """The worst answer of each phase, and the slower of two agents to act on a signal."""
    rounds = [one_round() for _ in range(ROUNDS)]
    results = []
    for name, phases in (("responsive_page", PHASES), ("responsive_signal", ("signal",))):
        worst = [max(found[phase] for phase in phases) for found in rounds]
        details = {
            phase: f"{1000 * max(found[phase] for found in rounds):.0f} ms at most"
            for phase in phases
        }
        spread = (max(worst) - min(worst)) / max(worst)
        results.append(Result(name, max(worst), spread, AIM_SECONDS, "lower", details))
    return results


def one_round() -> dict[str, float]:
    """The worst of each phase, in seconds."""
    with tempfile.TemporaryDirectory(prefix="bench-responsive-") as folder:
        shared = {
            "TRAINER_NUM_WORKERS": "2", "TRAINER_LEADER": "127.0.0.1:18476",
            "TRAINER_GROUP_SECRET": secrets.token_hex(16),
        }  # fmt: skip
        agents = [Agent(Path(folder), index, 19476 + index, shared) for index in (0, 1)]
        try:
            return _phases(agents)
        finally:
            for agent in agents:
                agent.process.kill()
                agent.process.wait()


def _phases(agents: list[Agent]) -> dict[str, float]:
    first, second = agents
    first.wait_for("metrics")
    asker = Asker(first.events("metrics")[0]["url"])
    first.wait_for("config")
    asker.begin("trace")
    first.wait_for("progress")
    asker.begin("train")
    first.wait_for("progress", 3)
    for phase, frozen in (("wait", second.worker), ("hang", first.worker)):
        asker.begin(phase)
        os.kill(frozen, signal.SIGSTOP)
        time.sleep(FROZEN_SECONDS)
        os.kill(frozen, signal.SIGCONT)
        asker.begin("train")
        first.wait_for("progress", len(first.events("progress")) + 2)
    asker.end()
    if len(first.events("generation")) != 1:
        raise RuntimeError("a generation broke although only workers were frozen")
    started = time.perf_counter()
    first.process.send_signal(signal.SIGTERM)
    for agent in agents:
        agent.wait_for("stopping")
    return asker.worst | {"signal": time.perf_counter() - started}


NAMES = ("responsive_page", "responsive_signal")
MEASURES = dict.fromkeys(NAMES, measure)

if __name__ == "__main__":
    run_alone(MEASURES, about=__doc__)
