"""An agent among others: gather, run a worker for one generation, gather again.

    gather -> worker -> the generation's end -> gather, or the end

While agents gather, their next workers import TensorFlow.

Agent 0 also leads: it holds the run before a generation begins, and counts failures.
"""

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack, suppress
from functools import partial
from typing import Any, cast

from trainer.agent.group_place import GroupPlace
from trainer.agent.holding import HeldForGroup, Holding
from trainer.agent.life import Life, cause_of
from trainer.agent.restarts import Restarts
from trainer.agent.supervisor import FINAL, Stop, Supervisor, end_of
from trainer.agent.threads import in_thread
from trainer.cluster import tf_config
from trainer.errors import GatheringError, NoProgressError, StoppedError
from trainer.gathering.leader import Leader
from trainer.gathering.member import Event, Member
from trainer.gathering.messages import Broken, EndCode, Ended, Plan
from trainer.gathering.messages import Stop as StopOfAll
from trainer.goodput import COMPLETE

_PROGRESS_SECONDS = 1.0
_CAUSE_SECONDS = 0.5
# For a worker to end after the run has.
_LAST_SECONDS = 30.0
_OVER = "its generation was over"


class GroupSupervisor(Supervisor):
    """Keeps one worker of a group training, in generations that all agents begin together."""

    def __init__(self, *args: Any, place: GroupPlace, **kwargs: Any) -> None:
        super().__init__(*args, is_kept=place.leads, **kwargs)
        self._place = place
        self._restarts: Restarts | None = None  # only agent 0 counts
        self._leader: Leader | None = None

    async def _lives(self, holding: Holding, restarts: Restarts, stop: Stop) -> int:
        place = self._place
        self._metrics.group_wanted_workers.set(place.num_workers)
        self._metrics.group_present_workers.set(0)
        if (code := await self._found_complete(holding, stop)) is not None:
            return code
        async with AsyncExitStack() as closing:
            if place.leads:
                own = await in_thread(place.offer)
                leader = self._leader = Leader(
                    own, partial(self._choose, holding), secret=place.secret,
                    port=place.port, address=place.listens_on, rules=place.rules,
                    timings=place.timings, log=self._log,
                )  # fmt: skip
                await leader.start()
                closing.push_async_callback(leader.close)
            member = Member(
                place.host, place.port, secret=place.secret, timings=place.timings, log=self._log
            )
            await closing.enter_async_context(member)
            self._restarts = restarts if place.leads else None
            while True:
                # Its imports take longer than to gather.
                self._spare.prepare()
                try:
                    plan = await self._gather(member, stop)
                except GatheringError:
                    # Whoever completed the run has ended, and leads no more.
                    if (code := await self._found_complete(holding, stop)) is not None:
                        return code
                    raise
                if not isinstance(plan, Plan):
                    return plan
                held = HeldForGroup(plan.chosen, holding if place.leads else None)
                life = self._start(held, self._environ(plan))
                self._metrics.generation.set(held.answer["fence"])
                self._metrics.group_present_workers.set(len(plan.indices))
                code = await self._live(life, member, stop)
                self._metrics.group_present_workers.set(0)
                self._life = None
                self._line.because(COMPLETE if code == 0 else "stopped")
                # Whoever ended may have completed the run, and nobody else comes for that.
                if code is None:
                    code = await self._found_complete(holding, stop)
                if code is not None:
                    return code

    async def _found_complete(self, holding: Holding, stop: Stop) -> int | None:
        """The code of a run that has nothing left to train: nobody else may come for that."""
        if not await in_thread(holding.is_complete):
            return None
        life = self._start(HeldForGroup({}, None), options=["--if-complete"])
        stop.on_signal = partial(self._pass_on, life)
        code = await life.run()
        self._life = None
        stop.on_signal = stop.leave
        if stop.signal is not None:
            return 128 + stop.signal
        if code not in FINAL:
            return None
        self._reason = life.error
        return code

    async def _choose(
        self, holding: Holding, number: int, indices: tuple[int, ...]
    ) -> Mapping[str, Any]:
        """Hold the run for all, with a fence of its own for each generation."""
        self._line.workers = len(indices)
        answer = await in_thread(holding.hold_for_group)
        num_workers = self._place.num_workers
        self._log.info("generation", number=number, workers=len(indices), of=num_workers)
        # Whoever waits here waits for all, and none of the workers needs to know.
        return {**answer, "waited": None}

    async def _gather(self, member: Member, stop: Stop) -> Plan | int:
        """The next generation, or the code with which to end."""
        self._line.switch("gathering")
        joining = asyncio.ensure_future(member.join(await in_thread(self._place.offer)))
        stop.on_signal = joining.cancel
        try:
            answer = await joining
        except asyncio.CancelledError:
            if stop.signal is None:
                raise
            return 128 + stop.signal
        return answer if isinstance(answer, Plan) else self._ended(answer)

    def _environ(self, plan: Plan) -> dict[str, str]:
        return {"TF_CONFIG": tf_config(plan.addresses, plan.indices.index(self._place.index))}

    async def _live(self, life: Life, member: Member, stop: Stop) -> int | None:
        """One worker to its end, or its generation's; the code to end with, None to go on."""

        def on_signal() -> None:
            self._log.info("stopping", step=life.step)
            member.stop()
            life.stop(again=stop.is_repeated)

        stop.on_signal = on_signal
        if stop.signal is not None:  # it came when the plan was there already
            on_signal()
        running = asyncio.create_task(life.run())
        life.on_saved = partial(self._take_in, member)
        telling = asyncio.create_task(_tell_progress(life, member))
        try:
            event = await self._hear(life, member, running)
            if isinstance(event, Ended):
                return await self._end_with_others(running, event)
            if isinstance(event, Broken):
                life.kill(_OVER)
                await running
                stop.on_signal = stop.leave
                if stop.signal is None:
                    await self._broken(life, member, event)
            else:
                stop.on_signal = stop.leave
                code = running.result()
                if code in FINAL:
                    return await self._end_others(life, member, code)
                ended = await self._ended_early(life, member, code)
                if ended is not None:
                    return self._ended(ended)
            if stop.signal is None:
                return None
            await member.leave()
            return 128 + stop.signal
        finally:
            telling.cancel()
            if not running.done():
                life.kill(_OVER)
                await running

    def _take_in(self, member: Member) -> None:
        """A checkpoint is committed: whoever waits outside costs no more than a start now."""
        if self._leader is not None and self._leader.can_grow:
            member.stop()

    async def _hear(
        self, life: Life, member: Member, running: "asyncio.Task[int]"
    ) -> Broken | Ended | None:
        """What ends the generation; None when that is this worker's end."""
        while True:
            event = await _next_event(member, running)
            if not isinstance(event, StopOfAll):
                return event
            if not life.is_stopping:
                self._log.info("stopping", step=life.step, reason=f"worker {event.index} was told")
                life.stop()

    async def _end_others(self, life: Life, member: Member, code: int) -> int | None:
        """This worker's end is everybody's; None if the others do not end."""
        if code == 0 and not self._place.leads:
            # What the chief writes last makes the run complete.
            event: Event | None = None
            while not isinstance(event, Broken | Ended):
                event = await member.next_event()
            return self._ended(event) if isinstance(event, Ended) else None
        if code != 0:
            self._line.because(*end_of(life, code))
        return self._ended(await member.end(cast(EndCode, code), life.error))

    async def _end_with_others(self, running: "asyncio.Task[int]", ended: Ended) -> int:
        if ended.code == 0:
            # It has nothing left to write, and ends by itself.
            await asyncio.wait({running}, timeout=_LAST_SECONDS)
        return self._ended(ended)

    def _ended(self, ended: Ended) -> int:
        """The code; why is said by all who did not find out themselves."""
        if ended.code != 0:
            self._reason = f"worker {ended.index}: {ended.message}"
            self._line.because("group", self._reason)
        if ended.code != 0 and ended.index != self._place.index:
            self._log.error(
                "run ended", worker=ended.index, code=ended.code, reason=ended.message
            )  # fmt: skip
        return ended.code

    async def _ended_early(self, life: Life, member: Member, code: int) -> Ended | None:
        """The worker stopped as agreed, or failed; what the run has ended with, if it has."""
        if life.is_stopping or code == StoppedError.exit_code:
            member.stopped()
            return None
        cause, reason = cause_of(life, code)
        event = await _soon(member) if cause == "failed" else None
        if isinstance(event, Ended):
            return event
        if isinstance(event, Broken):
            await self._broken(life, member, event)
        else:
            member.failed(reason)
            self._line.because(cause, reason)
            await self._again(life, member, cause, reason, self._restarts)
        return None

    async def _broken(self, life: Life, member: Member, event: Broken) -> None:
        # Only what a worker did is a failure: a pod that goes was most likely told to.
        failures = self._restarts if event.failed else None
        self._line.because("group", event.reason)
        await self._again(life, member, "group", event.reason, failures)

    async def _again(
        self, life: Life, member: Member, cause: str, reason: str, failures: Restarts | None
    ) -> None:
        """Count a failure once for the group, and end all when it is one too many."""
        try:
            await self._count(life, cause, reason, failures)
        except NoProgressError as error:
            await member.end(7, str(error))
            raise


async def _next_event(member: Member, running: "asyncio.Task[int]") -> Event | None:
    """The next event, or None when the worker has ended before it."""
    hearing = asyncio.ensure_future(member.next_event())
    await asyncio.wait({hearing, running}, return_when=asyncio.FIRST_COMPLETED)
    if hearing.done():
        return hearing.result()
    hearing.cancel()
    return None


async def _soon(member: Member) -> Event | None:
    """What ends the generation, if that is told soon: a failure may follow from another."""
    with suppress(TimeoutError):
        return await asyncio.wait_for(member.next_event(), _CAUSE_SECONDS)
    return None


async def _tell_progress(life: Life, member: Member) -> None:
    while True:
        await asyncio.sleep(_PROGRESS_SECONDS)
        if life.step is not None:
            member.progress(life.step)
