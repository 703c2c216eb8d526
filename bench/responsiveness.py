"""Seconds until an agent answers, whatever its worker does: /metrics, SIGTERM, and heartbeats.

Two agents on this machine train a small model; one thread asks agent 0 for its metrics every 20 ms,
from the start of its worker on. The worker imports TensorFlow, traces, trains, waits for the other
one, which is frozen, or is frozen itself; in each of these phases, agents of their own get SIGTERM.
It is answered when the agent has said that it stops, or has ended. Agent 1 reaches agent 0 through
a relay, which notes when heartbeats come back: one is late by the time since the one before, less
their period, so both agents' delays are in it.
"""

import asyncio
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
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from aiohttp import ClientError, ClientSession, ClientWebSocketResponse, web

from bench.pairs import Result, run_alone
from trainer.gathering.connection import PATH
from trainer.gathering.messages import Pong, encode
from trainer.gathering.seal import TAG_BYTES
from trainer.gathering.timings import Timings

ROUNDS = 3
AIM_SECONDS = 1.0
FROZEN_SECONDS = 6.0
LEADER_PORT = 18476
PONG = encode(Pong())
PATIENCE_SECONDS = 180.0
NAMES = ("responsive_page", "responsive_signal", "responsive_heartbeat")
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


_Socket = ClientWebSocketResponse | web.WebSocketResponse


class Relay:
    """A way to the leader that notes how late, in seconds, heartbeats are: the worst by phase."""

    def __init__(self, port: int) -> None:
        self.worst: dict[str, float] = {}
        self._leader, self._phase = f"http://127.0.0.1:{port}{PATH}", PHASES[0]
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.address = f"127.0.0.1:{self._run(self._open())}"

    def begin(self, phase: str) -> None:
        """What comes late from now on counts for this phase."""
        self._phase = phase

    def end(self) -> None:
        """Close it, and what goes through it."""
        self._run(self._runner.cleanup())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE_SECONDS)
        self._loop.close()

    def _run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE_SECONDS)

    async def _open(self) -> int:
        self._runner = web.ServerRunner(web.Server(self._serve), shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        return int(self._runner.addresses[0][1])

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            async with ClientSession() as session, session.ws_connect(self._leader) as leader:
                member = web.WebSocketResponse()
                await member.prepare(request)
                ways = (self._forward(leader, member), self._forward(member, leader))
                tasks = [asyncio.ensure_future(way) for way in ways]
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                for task in tasks:
                    task.cancel()
                return member
        except ClientError:  # it is not there yet: the member tries again
            return web.Response(status=502)

    async def _forward(self, source: _Socket, to: _Socket) -> None:
        last = None
        async for message in source:
            await to.send_bytes(message.data)
            # Sealed, not hidden: behind the tag comes what is said.
            if message.data[TAG_BYTES:] != PONG:
                continue
            now, phase = time.perf_counter(), self._phase
            if last is not None:
                late = now - last - Timings().ping
                self.worst[phase] = max(self.worst.get(phase, 0.0), late)
            last = now


def measure() -> list[Result]:
    """The worst of each phase: of the page, of answers to a signal, and of heartbeats."""
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


def one_round() -> tuple[dict[str, float], ...]:
    """Of each phase the worst page, its signal, and the latest heartbeat, in seconds."""
    pages: dict[str, float] = {}
    signals: dict[str, float] = {}
    beats: dict[str, float] = {}
    for last in PHASES:
        page, signals[last], beat = one_life(last)
        for worst, found in ((pages, page), (beats, beat)):
            worst |= {phase: max(worst.get(phase, 0.0), found.get(phase, 0.0)) for phase in PHASES}
    return pages, signals, beats


def one_life(last: str) -> tuple[dict[str, float], float, dict[str, float]]:
    """The worst page and heartbeat of each phase up to the last, and the signal in that."""
    relay = Relay(LEADER_PORT)
    with tempfile.TemporaryDirectory(prefix="bench-responsive-") as folder:
        shared = {
            "TRAINER_NUM_WORKERS": "2", "TRAINER_LEADER": f"127.0.0.1:{LEADER_PORT}",
            "TRAINER_GROUP_SECRET": secrets.token_hex(16),
        }  # fmt: skip
        agents = [
            Agent(Path(folder), 0, 19476, shared),
            Agent(Path(folder), 1, 19477, shared | {"TRAINER_LEADER": relay.address}),
        ]
        try:
            agents[0].wait_for("metrics")
            asker = Asker(agents[0].events("metrics")[0]["url"])
            try:
                _reach(last, agents, (asker, relay))
            finally:
                asker.end()
            _check(last, agents)
            return asker.worst, agents[0].answer_to_signal(), dict(relay.worst)
        finally:
            for agent in agents:
                agent.process.kill()
                agent.process.wait()
            relay.end()


def _reach(last: str, agents: list[Agent], watchers: tuple[Asker, Relay]) -> None:
    """Go on to the middle of a phase."""

    def begin(phase: str) -> None:
        for watcher in watchers:
            watcher.begin(phase)

    first, second = agents
    first.wait_for("worker starts")
    if last == "import":
        return
    first.wait_for("config")
    begin("trace")
    first.wait_for("train")
    if last == "trace":
        return
    first.wait_for("progress")
    begin("train")
    first.wait_for("progress", 3)
    if last != "train":
        begin(last)
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
