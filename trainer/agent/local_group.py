"""All agents of a group on this machine: `trainer train --workers N`.

Does what a cluster does for pods: starts them, starts them again when they were killed, tells
them to stop. Worker 0 has the terminal; of the others, warnings and errors are passed on.
"""

import asyncio
import ctypes
import json
import os
import secrets
import signal
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from trainer.agent.ports import free_port
from trainer.agent.process import this_command, with_options
from trainer.cluster import read_cluster
from trainer.config import RunConfig
from trainer.environment import SECRET_VARIABLE
from trainer.errors import ENDS_RUN, ConfigError, GatheringError

_RESTART_SECONDS = (0.0, 1.0, 2.0, 4.0, 8.0)
_LAST_SECONDS = 15.0
_PR_SET_PDEATHSIG = 1
_MOST_LINE_BYTES = 1 << 20
_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


class LocalGroup:
    """Keeps `num_workers` agents running; `arguments` are those of `trainer train` for each."""

    def __init__(
        self, config: RunConfig, num_workers: int, arguments: Sequence[str], *, log: Any
    ) -> None:  # fmt: skip
        self._config = config
        self._num_workers = num_workers
        self._arguments = arguments
        self._log = log
        self._left = config.run.max_restarts * num_workers
        self._environ = {**os.environ, **group_environ(num_workers)}
        self._agents: dict[int, asyncio.subprocess.Process] = {}
        self._signal: int | None = None
        self._over = asyncio.Event()
        self._final: int | None = None

    async def run(self) -> int:
        """Until all agents have ended for good; the exit code of the run."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._pass_on, number)
        ending = asyncio.create_task(self._end_the_last())
        codes = await asyncio.gather(*map(self._keep, range(self._num_workers)))
        ending.cancel()
        if self._final is not None:
            return self._final
        return 128 + self._signal if self._signal else codes[0]

    async def _keep(self, index: int) -> int:
        """One agent, started again when it was killed; its last exit code."""
        starts = 0
        while True:
            code = await self._live(index)
            if code in (0, *ENDS_RUN):
                # The others end alike, or are told to: what that makes of them does not count.
                self._final = code if self._final is None else self._final
                self._over.set()
            if self._signal or self._over.is_set() or code == GatheringError.exit_code:
                return code
            if self._left == 0:
                self._log.error("worker given up", worker=index, code=code)
                self._final = 128 - code if code < 0 else code
                self._over.set()
                return code
            self._left -= 1
            wait = _RESTART_SECONDS[min(starts, len(_RESTART_SECONDS) - 1)]
            starts += 1
            self._log.warning("agent restarts", worker=index, reason=_describe(code), wait=wait)
            await asyncio.sleep(wait)
            if self._signal:
                return code

    async def _live(self, index: int) -> int:
        passed_on = None if index == 0 else asyncio.subprocess.PIPE
        agent = await asyncio.create_subprocess_exec(
            *this_command(), *with_options(self._arguments, self._of_own(index)),
            env={**self._environ, "TRAINER_WORKER_INDEX": str(index)},
            stdin=asyncio.subprocess.DEVNULL, stdout=passed_on, stderr=passed_on,
            limit=_MOST_LINE_BYTES, start_new_session=True, preexec_fn=end_with_parent,
        )  # fmt: skip
        self._agents[index] = agent
        if self._signal is not None:  # it came while this one was started
            agent.send_signal(self._signal)
        streams = [stream for stream in (agent.stdout, agent.stderr) if stream is not None]
        await asyncio.gather(*(_forward(index, stream) for stream in streams))
        code = await agent.wait()
        del self._agents[index]
        return code

    def _of_own(self, index: int) -> list[str]:
        port = self._config.metrics.port
        if index == 0 or not port:
            return []
        return [f"--set=metrics.port={port + index if port + index < 65536 else 0}"]

    def _pass_on(self, number: int) -> None:
        self._signal = self._signal or number
        for agent in self._agents.values():
            agent.send_signal(number)

    async def _end_the_last(self) -> None:
        """When one has ended for good, the others do so by themselves, or are told."""
        await self._over.wait()
        await asyncio.sleep(_LAST_SECONDS)
        for agent in self._agents.values():
            agent.terminate()
        await asyncio.sleep(self._config.train.grace_seconds + _LAST_SECONDS)
        for agent in self._agents.values():
            agent.kill()


def check_local(config: RunConfig, num_workers: int) -> None:
    """ConfigError when so many workers cannot train here."""
    if read_cluster(os.environ).num_workers > 1:
        raise ConfigError(
            "--workers starts workers on this machine alone, but TF_CONFIG or TRAINER_NUM_WORKERS "
            "names others: unset it, or leave --workers out"
        )
    if (problem := config.parts_problem(num_workers, num_workers)) is not None:
        raise ConfigError(problem)


def group_environ(num_workers: int) -> dict[str, str]:
    """What all agents of one group on this machine are told by; each gets its index, too."""
    # Unlike a port that the system gives away, nothing connects from one of these.
    if (port := free_port(range(10_000, 20_000), "127.0.0.1")) is None:
        raise ConfigError("all TCP ports from 10000 to 19999 are in use: end what uses them")
    return {
        "TRAINER_NUM_WORKERS": str(num_workers),
        "TRAINER_LEADER": f"127.0.0.1:{port}",
        SECRET_VARIABLE: secrets.token_hex(16),
    }


async def _forward(index: int, stream: asyncio.StreamReader) -> None:
    """What people have to know of a worker beside the one that they watch."""
    while line := await _line(stream):
        text = line.decode(errors="replace")
        if _level(text) not in ("debug", "info"):
            print(f"worker {index}: {text}", end="", file=sys.stderr, flush=True)


async def _line(stream: asyncio.StreamReader) -> bytes:
    """The next one; what is longer than any of ours is left out."""
    is_rest = False
    while True:
        try:
            line = await stream.readuntil()
        except asyncio.IncompleteReadError as end:
            return b"" if is_rest else end.partial
        except asyncio.LimitOverrunError as over:
            await stream.readexactly(over.consumed)
            is_rest = True
            continue
        if not is_rest:
            return line
        is_rest = False


def _level(line: str) -> str | None:
    try:
        event: Mapping[str, Any] = json.loads(line)
        return str(event.get("level", "info"))
    except (ValueError, AttributeError):
        return None


def _describe(code: int) -> str:
    return f"ended by {signal.Signals(-code).name}" if code < 0 else f"ended with {code}"


def end_with_parent() -> None:
    """Called in a child: it is told to stop when the process that started it has gone."""
    if _libc is not None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
