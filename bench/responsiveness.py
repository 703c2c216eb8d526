"""Seconds until an agent answers, whatever its worker does: the worst of /metrics and of SIGTERM.

Two agents on this machine train a small model; one thread asks agent 0 for its metrics every 20 ms,
from the start of its worker on. The worker imports TensorFlow, traces, trains, waits for the other
one, which is frozen, or is frozen itself; in each of these phases, agents of their own get SIGTERM.
It is answered when the agent has said that it stops, or has ended. Heartbeats go the same way as
the answers: that no generation breaks before the signal is looked at, too.
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
NAMES = ("responsive_page", "responsive_signal")
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

    def answer_to_signal(self) -> float:
        """Seconds from SIGTERM until it has said that it stops, or has ended."""
        started = time.perf_counter()
        self.process.send_signal(signal.SIGTERM)
        while not self.events("stopping") and self.process.poll() is None:
            if time.perf_counter() > started + PATIENCE_SECONDS:
                raise TimeoutError("SIGTERM was not answered")
            time.sleep(0.002)
        return time.perf_counter() - started


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
    """The worst answer of each phase: of the page, and to a signal."""
    rounds = [one_round() for _ in range(ROUNDS)]
    results = []
    for at, name in enumerate(NAMES):
        worst = [max(found[at].values()) for found in rounds]
        details = {
            phase: f"{1000 * max(found[at][phase] for found in rounds):.0f} ms at most"
            for phase in PHASES
        }
        spread = (max(worst) - min(worst)) / max(worst)
        results.append(Result(name, max(worst), spread, AIM_SECONDS, "lower", details))
    return results


def one_round() -> tuple[dict[str, float], dict[str, float]]:
    """The worst page of each phase, and its signal, in seconds."""
    pages: dict[str, float] = {}
    signals: dict[str, float] = {}
    for last in PHASES:
        found, signals[last] = one_life(last)
        pages = {phase: max(pages.get(phase, 0.0), found.get(phase, 0.0)) for phase in PHASES}
    return pages, signals


def one_life(last: str) -> tuple[dict[str, float], float]:
    """The worst page of each phase up to the last, and the signal in that."""
    with tempfile.TemporaryDirectory(prefix="bench-responsive-") as folder:
        shared = {
            "TRAINER_NUM_WORKERS": "2", "TRAINER_LEADER": "127.0.0.1:18476",
            "TRAINER_GROUP_SECRET": secrets.token_hex(16),
        }  # fmt: skip
        agents = [Agent(Path(folder), index, 19476 + index, shared) for index in (0, 1)]
        try:
            agents[0].wait_for("metrics")
            asker = Asker(agents[0].events("metrics")[0]["url"])
            try:
                _reach(last, agents, asker)
            finally:
                asker.end()
            _check(last, agents)
            return asker.worst, agents[0].answer_to_signal()
        finally:
            for agent in agents:
                agent.process.kill()
                agent.process.wait()


def _reach(last: str, agents: list[Agent], asker: Asker) -> None:
    """Go on to the middle of a phase."""
    first, second = agents
    first.wait_for("worker starts")
    if last == "import":
        return
    first.wait_for("config")
    asker.begin("trace")
    first.wait_for("train")
    if last == "trace":
        return
    first.wait_for("progress")
    asker.begin("train")
    first.wait_for("progress", 3)
    if last != "train":
        asker.begin(last)
        os.kill((second if last == "wait" else first).worker, signal.SIGSTOP)
        time.sleep(FROZEN_SECONDS)


def _check(last: str, agents: list[Agent]) -> None:
    """RuntimeError when a heartbeat was missed, or the phase is over already."""
    if any(agent.events("worker restarts") for agent in agents):
        raise RuntimeError(f"a generation broke in the phase {last}, though no agent was disturbed")
    if agents[0].events({"import": "config", "trace": "first step"}.get(last, "none")):
        raise RuntimeError(f"the phase {last} was over before the signal")


MEASURES = dict.fromkeys(NAMES, measure)

if __name__ == "__main__":
    run_alone(MEASURES, about=__doc__)
