"""The agent: parent of the training process, from the start of a command to its exit code.

    stores -> worker -> what its end means -> the next worker, or the end

It imports no TensorFlow: it answers and obeys while the worker imports, compiles, waits or hangs.
"""

import asyncio
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from prometheus_client import CollectorRegistry

from trainer import last_words
from trainer.agent.holding import Held, Holding
from trainer.agent.kept_output import KeptOutput
from trainer.agent.life import STOPPED, Life, cause_of
from trainer.agent.memory import give_back
from trainer.agent.process import Spawn, WorkerProcess, with_options
from trainer.agent.restarts import Restarts
from trainer.agent.spare import Spare
from trainer.agent.threads import in_thread
from trainer.agent.time_line import TimeLine
from trainer.cluster import read_cluster
from trainer.config import RunConfig
from trainer.environment import SPARE_VARIABLE
from trainer.errors import ENDS_RUN, NoProgressError, TrainerError
from trainer.goodput import COMPLETE
from trainer.metrics import Metrics
from trainer.metrics.exposition import MetricsServer
from trainer.metrics.relay import Relay
from trainer.metrics.serving import serving
from trainer.storage import Storage
from trainer.stores import DEADLINE_SECONDS, wait_for_stores

# What a worker ends with that is not to be followed by another; without progress ends an agent.
FINAL = (0, *(code for code in ENDS_RUN if code != NoProgressError.exit_code))


class Supervisor:
    """Keeps a worker of `config` training; `arguments` are those of `trainer worker`.

    is_kept: this agent's time line is the group's.
    """

    def __init__(
        self,
        config: RunConfig,
        arguments: Sequence[str],
        *,
        open_storage: Callable[..., Storage],
        spawn: Spawn,
        log: Any,
        is_kept: bool = True,
    ) -> None:
        registry = CollectorRegistry()
        self._config = config
        self._arguments = arguments
        self._open_storage = open_storage
        self._spawn = spawn
        self._log = log
        self._metrics = Metrics(registry, labels=config.metrics.labels)
        self._metrics.set_run_info(config.run_name)  # alerts tell by it whose pod has no worker
        self._relay = Relay(registry)
        self._line = TimeLine(self._metrics, is_kept=is_kept, log=log)
        self._life: Life | None = None
        self._spare = Spare(self._start_spare)
        self._kept = KeptOutput(None, 0, log)
        self._reason = ""

    async def run(self) -> int:
        """Until the run is complete, cannot go on, or is told to stop; the exit code.

        Raises NoProgressError, and StorageError when the stores cannot be reached.
        """
        stop = Stop(asyncio.get_running_loop())
        give_back()
        with serving(self._config.metrics, self._relay, self._log, self._is_ready) as server:
            try:
                code = await self._with_stores(stop)
                last_words.leave(self._reason)
            except TrainerError as error:
                # A cluster starts the pod again after the others.
                if error.exit_code in ENDS_RUN:
                    self._metrics.run_exit_code.set(error.exit_code)
                    await self._last_scrape(server, stop, str(error))
                raise
            self._metrics.run_exit_code.set(code)
            await self._last_scrape(server, stop, f"the run ended with {code}")
            return code

    async def _with_stores(self, stop: "Stop") -> int:
        config = self._config
        await in_thread(wait_for_stores, config, self._open_storage, self._log)
        storage = self._open_storage(
            config.run.dir, deadline_seconds=DEADLINE_SECONDS,
            on_request=self._metrics.count_request,
        )  # fmt: skip
        if config.log.keep:
            self._kept = KeptOutput(storage, read_cluster(os.environ).worker, self._log)
        holding = Holding(storage, config.run.lease_seconds, self._log, self._line)
        self._line.start()
        try:
            return await self._lives(holding, Restarts(storage, config.run.max_restarts), stop)
        finally:
            stop.on_signal = stop.leave
            self._spare.close()
            await asyncio.gather(in_thread(self._line.close), self._kept.close())
            holding.close()

    async def _last_scrape(self, server: MetricsServer | None, stop: "Stop", reason: str) -> None:
        """What was counted last is to be seen; a signal ends the wait."""
        if server is None or stop.signal is not None:
            return
        signalled = asyncio.Event()
        stop.on_signal = signalled.set

        def tell(seconds: float) -> None:
            self._log.info("last scrape", most_seconds=round(seconds, 1), reason=reason)

        scraped = asyncio.ensure_future(in_thread(server.await_last_scrape, tell))
        told = asyncio.ensure_future(signalled.wait())
        await asyncio.wait({scraped, told}, return_when=asyncio.FIRST_COMPLETED)
        told.cancel()

    async def _lives(self, holding: Holding, restarts: Restarts, stop: "Stop") -> int:
        self._metrics.group_wanted_workers.set(1)
        while True:
            life = self._start(holding)
            self._metrics.group_present_workers.set(1)
            stop.on_signal = partial(self._pass_on, life)
            code = await life.run()
            self._metrics.group_present_workers.set(0)
            self._life = None
            self._line.because(*end_of(life, code))
            if code in FINAL:
                self._reason = life.error
                return code
            if stop.signal is not None:
                return 128 + stop.signal
            stop.on_signal = stop.leave
            await self._count(life, *cause_of(life, code), restarts)

    def _start(
        self, held: Held, environ: Mapping[str, str] | None = None, options: Sequence[str] = ()
    ) -> Life:
        """A worker, with these variables and options beside the agent's."""
        self._line.switch("startup")
        process = None if options else self._spare.take()
        if process is None:
            process = WorkerProcess(
                self._spawn, with_options(self._arguments, options), environ or {}
            )
        else:
            process.go(environ or {})
        self._life = Life(
            process, held, self._relay, self._kept, self._log,
            self._config.run.hang_seconds, self._config.train.grace_seconds,
        )  # fmt: skip
        self._life.on_time, self._life.on_progress = self._line.take, self._line.at_step
        self._life.on_end = self._worker_ended
        if self._config.run.warm_spare:
            self._life.on_step = self._spare.prepare
        self._log.info("worker starts", pid=process.pid)
        return self._life

    def _worker_ended(self, code: int) -> None:
        self._line.worker_ended(is_broken_off=code not in (*FINAL, *STOPPED))

    def _start_spare(self) -> WorkerProcess:
        return WorkerProcess(self._spawn, self._arguments, {SPARE_VARIABLE: "1"})

    async def _count(self, life: Life, cause: str, reason: str, restarts: Restarts | None) -> None:
        """Note why a worker ended, and wait a little when it happens again and again."""
        # Whoever told it to stop, past its agent, means no failure of it.
        wait = 0.0
        if cause != "stopped" and restarts is not None:
            wait = await in_thread(restarts.failed, life.step, reason)
        self._metrics.worker_restarts[cause].inc()
        self._log.warning("worker restarts", reason=reason, step=life.step, wait_seconds=wait)
        await asyncio.sleep(wait)

    def _pass_on(self, life: Life) -> None:
        self._log.info("stopping", step=life.step)
        life.stop(again=life.is_stopping)

    def _is_ready(self) -> bool:
        return self._life is not None and self._life.step is not None


class Stop:
    """SIGTERM and Ctrl-C, as they come: passed on to a worker, or the end at once."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.signal: int | None = None
        self.is_repeated = False
        self.on_signal: Callable[[], object] = self.leave
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._handle, number)

    def leave(self) -> None:
        """Nothing runs that could lose work."""
        os._exit(128 + (self.signal or signal.SIGTERM))

    def _handle(self, number: int) -> None:
        self.is_repeated = self.signal is not None
        self.signal = self.signal or number
        self.on_signal()


def end_of(life: Life, code: int) -> tuple[str, str]:
    """Why a worker ended, for the time line: `cause_of`, or that nothing is left to do."""
    if code == 0:
        return COMPLETE, ""
    if life.is_stopping:
        return "stopped", "it was told to"
    return cause_of(life, code)
