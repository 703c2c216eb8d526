"""One life of a worker: what it asks is answered, what it says is noted, until it ends."""

import asyncio
import json
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from trainer.agent.holding import Held
from trainer.agent.kept_output import KeptOutput
from trainer.agent.memory import killed_by
from trainer.agent.process import WorkerProcess
from trainer.agent.threads import in_thread
from trainer.channel import MAX_MESSAGE_BYTES, Message, decode, describe_error, encode
from trainer.errors import RunHeldError, StoppedError, TrainerError
from trainer.goodput import Spent
from trainer.metrics.relay import Relay

# What a worker ends with that was told to.
STOPPED = (StoppedError.exit_code, 128 + signal.SIGINT, 128 + signal.SIGTERM)
_LOOK_SECONDS = 0.5
# A worker that was told to stop ends by itself within the grace; this is for its last words.
_EXTRA_GRACE_SECONDS = 2.0
_STACKS_SECONDS = 1.0
# What is made of a 0 that was none.
_NOT_COMPLETE = 1


@dataclass
class Life:
    """From a started process to its end.

    Nobody's 0 is believed who did not say that the run is complete: a library, or a child of a
    fork, may leave by it in the middle of a training.

    `step` is the last that it told of, `error` what it said of its end. `on_step` is called at its
    first step, `on_saved` at each checkpoint, `on_progress` with each step that it tells of,
    `on_time` with what it says of its time, `on_end` at its end. `fence` is there when it holds the
    run. `hang_seconds`: so long without a word of progress, and it is taken for hung: its stacks
    are dumped, and it is killed.
    """

    process: WorkerProcess
    holding: Held
    relay: Relay
    kept: KeptOutput
    log: Any
    hang_seconds: float
    grace_seconds: float
    clock: Callable[[], float] = time.monotonic
    step: int | None = None
    fence: int | None = None
    is_hung: bool = False
    on_step: Callable[[], None] = lambda: None
    on_saved: Callable[[], None] = lambda: None
    on_progress: Callable[[int], None] = lambda _step: None
    on_time: Callable[[Spent], None] = lambda _spent: None
    on_end: Callable[[int], None] = lambda _code: None
    error: str = ""
    _is_complete: bool = False
    _progress: float = field(init=False)
    _why_killed: str = ""
    _told_to_stop: float | None = None
    # A worker that waits for an answer does not hang: a store, or another job, may take minutes.
    _num_questions: int = 0

    def __post_init__(self) -> None:
        self._progress = self.clock()

    def kill(self, reason: str) -> None:
        """End the worker at once; what is kept of its output ends with the reason."""
        self._why_killed = reason
        self.process.kill()

    @property
    def is_stopping(self) -> bool:
        """Whether it was told to."""
        return self._told_to_stop is not None

    def stop(self, *, again: bool = False) -> None:
        """Tell the worker to save and end; `again`, and it ends at once.

        Who stops with others hears of it by them, too, and goes on saving. A second signal is not
        left to the worker: two that come in one native call are one to its Python.
        """
        if self._told_to_stop is None:
            self._told_to_stop = self.clock()
            self.process.signal(signal.SIGTERM)
        elif again:
            self._kill("it was told to stop a second time")

    def _kill(self, reason: str) -> None:
        self.log.error("worker killed", reason=reason)
        self.kill(reason)

    async def run(self) -> int:
        """Until the process has ended; its exit code, negative for a signal."""
        ended = asyncio.wrap_future(self.process.ended)
        reader, writer = await self._connect()
        listening = asyncio.create_task(self._listen(reader, writer))
        watching = asyncio.create_task(self._watch(writer))
        keeping = asyncio.create_task(self.kept.keep(lambda: self.fence, self.process.output))
        try:
            code = await ended
            # What it said last is still to be read.
            await asyncio.wait([listening], timeout=_LOOK_SECONDS)
            if code == 0 and not self._is_complete:
                code, self.error = _NOT_COMPLETE, "it ended with 0 before the run was complete"
            self.on_end(code)
            return code
        finally:
            for task in (listening, watching, keeping):
                task.cancel()
            writer.close()
            self.relay.end_life()
            self._keep_output()

    def _keep_output(self) -> None:
        """With why it ended, which it may not have been able to say."""
        if self.fence is None or not self.process.ended.done():
            return
        code = self.process.ended.result()
        reason = self._why_killed or cause_of(self, code)[1]
        last = {"event": "worker ended", "code": code, "step": self.step}
        last |= {"reason": reason} if code != 0 or self.error else {}
        self.kept.write(self.fence, self.process.output.end() + json.dumps(last).encode() + b"\n")

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(MAX_MESSAGE_BYTES)
        transport, protocol = await loop.create_connection(
            lambda: _ToTheEnd(reader), sock=self.process.channel
        )
        return reader, asyncio.StreamWriter(transport, protocol, reader, loop)

    async def _listen(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answering: set[asyncio.Task[None]] = set()
        try:
            while line := await reader.readline():
                message = decode(line)
                kind = message["kind"]
                if kind == "metrics":
                    self.relay.update(message["families"])
                elif kind == "progress":
                    self._progress = self.clock()
                    self._note_step(message["step"])
                elif kind == "time":
                    self._note_step(message["step"])
                    self.on_time(Spent(message["seconds"], message["cause"], message["at"]))
                elif kind == "saved":
                    self.on_saved()
                elif kind == "complete":
                    self._is_complete = True
                elif kind == "error":
                    self.error = message["message"]
                else:
                    # Beside: a store may take minutes, and a worker whose words nobody reads stops.
                    task = asyncio.create_task(self._reply(message, writer))
                    answering.add(task)
                    task.add_done_callback(answering.discard)
        except ValueError as error:
            # Nobody would answer it any more.
            self._kill(f"its message cannot be read: {error}")

    def _note_step(self, step: int | None) -> None:
        if step is None:
            return
        is_first = self.step is None
        self.step = step
        self.on_progress(step)
        if is_first:
            self.on_step()

    async def _reply(self, question: Message, writer: asyncio.StreamWriter) -> None:
        answer = await self._answer(question)
        writer.write(encode({"kind": "answer", "id": question["id"], **answer}))

    async def _answer(self, question: Message) -> Message:
        """What the store says."""
        asked = {
            "hold": lambda: self.holding.hold(question["above"]),
            "refresh": self.holding.refresh,
            "restored": lambda: self.holding.restored(question["fence"], question["step"]),
        }[question["kind"]]
        self._num_questions += 1
        try:
            answer = await in_thread(asked)
            self.fence = answer.get("fence", self.fence)
            return answer
        except TrainerError as error:
            return {"error": describe_error(error)}
        finally:
            self._num_questions -= 1
            self._progress = self.clock()

    async def _watch(self, writer: asyncio.StreamWriter) -> None:
        is_lost = False
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            now = self.clock()
            try:
                self.holding.check()
            except RunHeldError as error:
                if not is_lost:
                    self.log.error("run lost", reason=str(error))
                    writer.write(encode({"kind": "lost", "error": describe_error(error)}))
                is_lost = True
            stopping = self._told_to_stop
            if stopping is not None and now > stopping + self.grace_seconds + _EXTRA_GRACE_SECONDS:
                self._kill("it did not end within the grace")
            silent = 0.0 if self._num_questions else now - self._progress
            if silent > self.hang_seconds and not self.is_hung:
                await self._end_hung(silent)

    async def _end_hung(self, seconds: float) -> None:
        self.is_hung = True
        self.log.error("worker hangs", seconds=round(seconds), step=self.step)
        # Written by the C code of faulthandler, whoever holds the interpreter's lock.
        self.process.signal(signal.SIGUSR1)
        await asyncio.sleep(_STACKS_SECONDS)
        self.process.signal(signal.SIGKILL)


class _ToTheEnd(asyncio.StreamReaderProtocol):
    """What a worker said before it ended is read, also when it left something unread."""

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - its end is no error
        super().connection_lost(None)


def cause_of(life: Life, code: int) -> tuple[str, str]:
    """Why a worker ended, for a metric's label and in words."""
    if life.is_hung:
        return "hung", f"no progress for {life.hang_seconds:g} s"
    if code == -signal.SIGKILL:
        return "killed", killed_by()
    if code < 0:
        return "crashed", f"ended by {signal.Signals(-code).name}"
    if code in STOPPED:
        return "stopped", "it was told to stop by somebody else"
    return "failed", life.error or f"it ended with {code}, see above"
