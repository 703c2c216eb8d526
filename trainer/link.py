"""A worker's side of its agent: which holds the run, serves the metrics and wants to see progress.

The agent is in another process; all of this goes over a `trainer.channel.Channel`.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import cached_property

from prometheus_client import CollectorRegistry

from trainer.channel import Channel
from trainer.errors import StorageError
from trainer.goodput import CauseClock
from trainer.metrics.relay import snapshot
from trainer.run.run_dir import RunDir

_SNAPSHOT_SECONDS = 1.0
_PROGRESS_SECONDS = 0.1


class AgentLease:
    """The run's lease, which the agent holds; as `trainer.checkpoint.lease.Lease`."""

    def __init__(self, channel: Channel, fence: int, limits: dict[int, int]) -> None:
        self.fence = fence
        self.limits = limits
        self._channel = channel

    def check(self) -> None:
        """RunHeldError when another job is known to have taken the run over."""
        if self._channel.lost is not None:
            raise self._channel.lost

    def refresh(self) -> None:
        """RunHeldError when another job has taken the run over; asks the store."""
        self._channel.ask("refresh")

    def restored(self, fence: int, step: int) -> None:
        """Record what this fence goes on from."""
        answer = self._channel.ask("restored", fence=fence, step=step)
        self.limits.update(_limits(answer["limits"]))


class Link:
    """What a worker does by its agent.

    reached: the highest step that an earlier life had made, once the run is held.
    """

    def __init__(self, channel: Channel, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._channel = channel
        self._clock = clock
        # When a word without a step was told last, and one with it.
        self._told = {True: float("-inf"), False: float("-inf")}
        self._step: int | None = None
        self._telling_time = threading.Lock()
        self.reached = 0

    @cached_property
    def goodput(self) -> CauseClock:
        """This worker's, from the first use on; the agent is told what it says."""
        return CauseClock(on_change=self._tell_time)

    def _tell_time(self, clock: CauseClock) -> None:
        with self._telling_time:  # in the order in which it passed
            self._channel.tell("time", step=self._step, **asdict(clock.drain()))

    @contextmanager
    def held(self, run: RunDir, on_wait: Callable[[str], None]) -> Iterator[RunDir]:
        """The run, held by the agent for this worker; see `RunDir.held`.

        on_wait: told of a wait once it is over, since the agent says it while it lasts.
        """
        try:
            answer = self._channel.ask("hold", above=run.highest_fence())
        except StorageError as error:
            raise run.refused(error) from error
        if answer["waited"] is not None:
            on_wait(answer["waited"])
        self.reached = answer["reached"]
        yield replace(
            run, lease=AgentLease(self._channel, answer["fence"], _limits(answer["limits"]))
        )

    def progress(self, step: int | None = None) -> None:
        """Say that this worker is alive, and where; cheap enough for every call and batch."""
        now = self._clock()
        self._step = self._step if step is None else step
        if now - self._told[step is None] > _PROGRESS_SECONDS:
            self._told[step is None] = now
            self._channel.tell("progress", step=step)

    def saved(self) -> None:
        """Say that a checkpoint is committed."""
        self._channel.tell("saved")

    def complete(self) -> None:
        """Say that the run is complete, before this worker ends with 0."""
        self._channel.tell("complete")

    def failed(self, message: str) -> None:
        """Say what ends this worker."""
        # Halves of characters, as JSON may have them, no agent would tell another.
        self._channel.tell("error", message=message.encode(errors="replace").decode())

    @contextmanager
    def relayed(self, registry: CollectorRegistry) -> Iterator[None]:
        """Send metrics and time every second while the context lasts, and at its end."""
        is_over = threading.Event()

        def send() -> None:
            while not is_over.wait(_SNAPSHOT_SECONDS):
                self._channel.tell("metrics", families=snapshot(registry))
                self._tell_time(self.goodput)

        sender = threading.Thread(target=send, name="metrics", daemon=True)
        sender.start()
        try:
            yield
        finally:
            is_over.set()
            sender.join(_SNAPSHOT_SECONDS)
            self._channel.tell("metrics", families=snapshot(registry))
            self.goodput.switch("down")


def _limits(answer: dict[str, int]) -> dict[int, int]:
    # JSON has only names.
    return {int(fence): step for fence, step in answer.items()}
