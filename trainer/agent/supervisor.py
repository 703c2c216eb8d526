"""The agent: parent of the training process, from the start of a command to its exit code.

    stores -> worker -> what its end means -> the next worker, or the end

It imports no TensorFlow: it answers and obeys while the worker imports, compiles, waits or hangs.
"""

import asyncio
import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from prometheus_client import CollectorRegistry

from trainer.agent.holding import Holding
from trainer.agent.life import Life
from trainer.agent.memory import killed_by
from trainer.agent.process import Spawn, WorkerProcess
from trainer.agent.restarts import Restarts
from trainer.agent.threads import in_thread
from trainer.config import RunConfig
from trainer.errors import StoppedError
from trainer.metrics import Metrics
from trainer.metrics.relay import Relay
from trainer.metrics.serving import serving
from trainer.storage import Storage
from trainer.stores import DEADLINE_SECONDS, wait_for_stores

# Ended by its own doing, so that another worker would end alike.
_FINAL = (0, 2, 3, 4, 5, 6)
_STOPPED = (StoppedError.exit_code, 128 + signal.SIGINT, 128 + signal.SIGTERM)


@dataclass(frozen=True)
class Supervisor:
    """Keeps a worker of `config` training; `arguments` are those of `trainer worker`."""

    config: RunConfig
    arguments: Sequence[str]
    open_storage: Callable[..., Storage]
    spawn: Spawn
    log: Any

    async def run(self) -> int:
        """Until the run is complete, cannot go on, or is told to stop; the exit code.

        Raises NoProgressError, and StorageError when the stores cannot be reached.
        """
        registry = CollectorRegistry()
        metrics = Metrics(registry, labels=self.config.metrics.labels)
        relay = Relay(registry)
        stop = _Stop(asyncio.get_running_loop())
        with serving(self.config.metrics, relay, self.log):
            await in_thread(wait_for_stores, self.config, self.open_storage, self.log)
            storage = self.open_storage(
                self.config.run.dir, deadline_seconds=DEADLINE_SECONDS,
                on_request=metrics.count_request,
            )  # fmt: skip
            holding = Holding(storage, self.config.run.lease_seconds, self.log)
            try:
                return await self._lives(
                    holding, relay, metrics, Restarts(storage, self.config.run.max_restarts), stop
                )
            finally:
                holding.close()

    async def _lives(
        self, holding: Holding, relay: Relay, metrics: Metrics, restarts: Restarts, stop: "_Stop"
    ) -> int:
        while True:
            life = Life(
                WorkerProcess(self.spawn, self.arguments), holding, relay, self.log,
                self.config.run.hang_seconds, self.config.train.grace_seconds,
            )  # fmt: skip
            stop.on_signal = life.stop
            code = await life.run()
            if code in _FINAL:
                return code
            if stop.signal is not None:
                return 128 + stop.signal
            cause, reason = _cause(life, code)
            metrics.worker_restarts(cause).inc()
            if cause == "stopped":
                # By a signal that was sent to it past its agent.
                wait = 0.0
            else:
                wait = await in_thread(restarts.failed, life.step, reason)
            self.log.warning("worker restarts", reason=reason, step=life.step, wait_seconds=wait)
            stop.on_signal = stop.leave
            await asyncio.sleep(wait)


class _Stop:
    """SIGTERM and Ctrl-C, as they come: passed on to a worker, or the end at once."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.signal: int | None = None
        self.on_signal: Callable[[], None] = self.leave
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._handle, number)

    def leave(self) -> None:
        """Nothing runs that could lose work."""
        os._exit(128 + (self.signal or signal.SIGTERM))

    def _handle(self, number: int) -> None:
        self.signal = self.signal or number
        self.on_signal()


def _cause(life: Life, code: int) -> tuple[str, str]:
    """Why a worker ended, for a metric's label and in words."""
    if life.is_hung:
        return "hung", f"no progress for {life.hang_seconds:g} s"
    if code == -signal.SIGKILL:
        return "killed", killed_by()
    if code < 0:
        return "crashed", f"ended by {signal.Signals(-code).name}"
    if code in _STOPPED:
        return "stopped", "it was told to stop by somebody else"
    return "failed", f"it ended with {code}, see above"
