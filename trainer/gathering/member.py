"""One agent's place in the group: join, be told what happens, tell what happened here.

    plan = await member.join(offer)        # a Plan: start the worker
    event = await member.next_event()      # Broken: kill the worker, join again

A member needs nobody but the leader. It reports a generation as broken when the leader says so,
and when the leader is lost.
"""

import asyncio
import random
from types import TracebackType
from typing import Any

from aiohttp.abc import AbstractResolver

from trainer.errors import GatheringError
from trainer.gathering.link import Link, UnreachedError, Way
from trainer.gathering.messages import (
    AskStop,
    Broken,
    EndCode,
    Ended,
    Failed,
    Join,
    Leave,
    Offer,
    OfMember,
    Plan,
    Progress,
    Refused,
    Stop,
    Stopped,
    WorkerEnded,
    encode,
    shorten,
)
from trainer.gathering.seal import check_secret
from trainer.gathering.timings import Timings

Event = Broken | Ended | Stop
# Seconds that the last attempt has, although the deadline is nearer: too short, it says nothing.
_SHORTEST_TRY = 1.0


class Member:
    """Talks to the leader at `host` and `port`, over one connection that is opened as needed.

    One task at a time may be in `join()`, `next_event()` or `end()`; the others do not wait.
    `resolver` None asks the system's.
    """

    def __init__(
        self, host: str, port: int, *, secret: bytes, timings: Timings | None = None,
        resolver: AbstractResolver | None = None, log: Any,
    ) -> None:  # fmt: skip
        check_secret(secret)
        self._timings = timings or Timings()
        self._way = Way(host, port, secret, self._timings, resolver)
        self._log = log
        self._link: Link | None = None
        self._offer: Offer | None = None
        self._generation = 0

    async def __aenter__(self) -> "Member":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        await self.close()

    async def join(self, offer: Offer) -> Plan | Ended:
        """Wait for the next generation, or for the end of the run. May be cancelled.

        Raises:
            GatheringError: the leader was not reached in time, or the others did not come in
                time, or a newer incarnation of this worker did.
            ConfigError: the leader has another configuration, version or job.
            TrainerError: what was to be restored could not be chosen; of any class.
        """
        self._offer = offer
        answer = await self._ask(Join(offer=offer))
        if isinstance(answer, Plan):
            self._generation = answer.generation
        return answer

    async def next_event(self) -> Event:
        """What happens to the generation that runs. Raises as `join()` does, if replaced."""
        while self._link is not None:
            message = await self._link.events.get()
            match message:
                case None:
                    reason = f"the leader: {self._link.lost}"
                    self._link = None
                    return Broken(generation=self._generation, reason=shorten(reason), index=0)
                case Refused():
                    await self.close()
                    raise message.error()
                case Broken(generation=number) if number != self._generation:
                    continue
                case Broken() | Ended() | Stop():
                    return message
        return Broken(generation=self._generation, reason="this member has left", index=0)

    def failed(self, reason: str) -> None:
        """The worker died: the leader breaks the generation."""
        self._tell(Failed(generation=self._generation, reason=shorten(reason)))

    def stop(self) -> None:
        """This pod was told to stop: every member of the generation is told so."""
        self._tell(AskStop())

    def stopped(self) -> None:
        """The worker ended with 75, the generation is not broken by that. Then join or leave."""
        self._tell(Stopped(generation=self._generation))

    def progress(self, step: int) -> None:
        """The step that the worker has reached; once in a while."""
        self._tell(Progress(step=step))

    async def end(self, code: EndCode, message: str = "") -> Ended:
        """The worker ended with a code that is everybody's; returns when the leader knows.

        What the leader answers is what counts: another worker may have been first. Raises
        `GatheringError` when the leader cannot be told in time, and as `join()` does.
        """
        answer: Plan | Ended | None = None
        while not isinstance(answer, Ended):
            answer = await self._ask(WorkerEnded(code=code, message=shorten(message)))
        return answer

    async def leave(self) -> None:
        """Go, and say so."""
        await self.close(encode(Leave()))

    async def close(self, payload: bytes | None = None) -> None:
        """Close the connection, without a word: of a running generation, that breaks it."""
        link, self._link = self._link, None
        if link is not None:
            await link.close(payload)

    def _tell(self, message: OfMember) -> None:
        # Who has no leader has no generation either: next_event() says so.
        if self._link is not None:
            self._link.send(encode(message))

    async def _ask(self, message: Join | WorkerEnded) -> Plan | Ended:
        """What the leader answers to `message`, which a leader that comes back is told again."""
        payload = encode(message)
        try:
            # Even a link that is lost may hold the answer: the run's end, told before.
            heard, link = _now(), self._link
            while True:
                if link is None:
                    link = self._link = await self._reach(heard + self._timings.wait)
                    if isinstance(message, WorkerEnded):
                        link.send(self._join_again())
                link.send(payload)
                while (answer := await link.events.get()) is not None:
                    match answer:
                        case Refused():
                            raise answer.error()
                        case Plan() | Ended():
                            return answer
                self._log.warning("leader lost", reason=link.lost)
                heard, link = max(heard, link.pinged), None
                await self._pause()
        except BaseException:
            # The leader must not count on one that no longer waits.
            await self.close()
            raise

    def _join_again(self) -> bytes:
        if self._offer is None:
            raise RuntimeError("join() comes first")
        return encode(Join(offer=self._offer))

    async def _reach(self, deadline: float) -> Link:
        """A new link. Raises `GatheringError` after `deadline`."""
        told = None
        while True:
            seconds = min(self._timings.connect, max(deadline - _now(), _SHORTEST_TRY))
            try:
                return await self._way.open(seconds)
            except UnreachedError as error:
                reason = str(error)
            if reason != told:
                self._log.info("waiting for the leader", leader=self._way.name, reason=reason)
                told = reason
            await self._pause()
            if _now() > deadline:
                raise GatheringError(
                    f"the leader {self._way.name} was not reached within"
                    f" {self._timings.wait:g} s: {reason}: check that worker 0's pod runs, and that"
                    " it has the same secret"
                )

    async def _pause(self) -> None:
        # Random, because all the others try again, too.
        await asyncio.sleep(self._timings.retry * random.uniform(0.1, 1))


def _now() -> float:
    return asyncio.get_running_loop().time()
