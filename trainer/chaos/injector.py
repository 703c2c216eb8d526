"""Lets faults happen to the processes of a run, and sees that they did."""

import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from trainer.chaos.agents import Agent, Agents
from trainer.chaos.faults import Fault
from trainer.chaos.processes import send, state_of
from trainer.chaos.story import Story

_SIGNALS = {"kill": signal.SIGKILL, "stop": signal.SIGTERM, "freeze": signal.SIGSTOP}


@dataclass
class Fired:
    """A fault that was sent to a process, at a Unix time; `is_seen` when it had its effect."""

    fault: Fault
    pid: int
    parent: int
    time: float
    step: int
    is_seen: bool = False
    is_over: bool = False


class Injector:
    """Lets `faults` happen, one after the other; `parent` is the agents' pid."""

    def __init__(
        self, faults: Sequence[Fault], agents: Agents, story: Story, *, parent: int,
        on_fault: Callable[[Fired], Any],
    ) -> None:  # fmt: skip
        self._left = list(faults)
        self._total = len(faults)
        self._agents = agents
        self._story = story
        self._parent = parent
        self._on_fault = on_fault
        self._due: float | None = None
        self.fired: list[Fired] = []

    @property
    def is_done(self) -> bool:
        """Whether all have happened, and nothing is frozen any more."""
        return not self._left and all(fired.is_over for fired in self.fired)

    def look(self) -> None:
        """Do what is due now."""
        self.follow()
        if not self._left:
            return
        now = time.time()
        if self._due is None and self._may_happen(self._left[0]):
            self._due = now + (0.0 if self._is_late(self._left[0]) else self._left[0].pause)
        if self._due is not None and now >= self._due:
            self._fire(self._left[0])

    def _may_happen(self, fault: Fault) -> bool:
        if fault.at is None:
            return True
        story = self._story
        if story.target is None or story.share < fault.at:
            return False
        if not self.fired:
            return True
        # Failures without a new step would end the run, as they should.
        last = self.fired[-1]
        is_frozen = last.fault.action == "freeze"
        has_recovered = is_frozen or story.restored_at > last.time
        has_advanced = last.time < story.advanced_at >= story.restored_at
        return last.is_over and has_recovered and has_advanced

    def _is_late(self, fault: Fault) -> bool:
        """Whether the run is so far ahead of the faults that it might end before the last one."""
        return fault.at is not None and self._story.share > fault.at + 1 / self._total

    def _fire(self, fault: Fault) -> None:
        agent = self._agents.all[fault.index]
        found = self._find(fault, agent)
        if found is None:
            return  # tried again, until it has begun
        pid, parent = found
        fired = Fired(fault, pid, parent, time.time(), self._story.step)
        send(pid, _SIGNALS[fault.action])
        self._left.pop(0)
        self._due = None
        self.fired.append(fired)
        self._on_fault(fired)

    def _find(self, fault: Fault, agent: Agent) -> tuple[int, int] | None:
        """The process, while it lives, and its parent."""
        if agent.pid is None:
            return None
        pid, parent = agent.pid, self._parent
        if fault.target == "worker":
            pid, parent = self._story.pids.get(fault.index, 0), agent.pid
        state = state_of(pid, parent)
        return (pid, parent) if state not in (None, "Z") else None

    def follow(self) -> None:
        """See what became of those that were sent."""
        for fired in self.fired:
            if not fired.is_over:
                self._follow(fired)

    def _follow(self, fired: Fired) -> None:
        """Whether it had its effect, and the end of a freeze."""
        state = state_of(fired.pid, fired.parent)
        is_gone = state in (None, "Z")
        if fired.fault.action != "freeze":
            fired.is_seen = fired.is_over = is_gone
            return
        fired.is_seen = fired.is_seen or state == "T"
        if is_gone or time.time() >= fired.time + fired.fault.seconds:
            self._thaw(fired)
            fired.is_over = True

    def _thaw(self, fired: Fired) -> None:
        if state_of(fired.pid) == "T":  # also when its agent has gone meanwhile
            send(fired.pid, signal.SIGCONT)

    def close(self) -> None:
        """Leave nothing frozen."""
        for fired in self.fired:
            if not fired.is_over:
                self._thaw(fired)
