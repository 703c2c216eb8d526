"""A run from its start to its end, with faults or without; no wait in it is without a bound."""

import os
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from trainer.chaos.agents import Agents
from trainer.chaos.faults import Fault
from trainer.chaos.injector import Fired, Injector
from trainer.chaos.story import Story
from trainer.errors import TrainerError

_LOOK_SECONDS = 0.02


@dataclass
class Trained:
    """How a run went: its exit code, None when it was broken off by whoever watched."""

    story: Story
    seconds: float
    code: int | None
    fired: list[Fired] = field(default_factory=list)


def train(
    agents: Agents,
    faults: Sequence[Fault] = (),
    *,
    patience: float,
    on_fault: Callable[[Fired], Any] = lambda _fired: None,
    is_enough: Callable[[Injector, Story], bool] = lambda _injector, _story: False,
) -> Trained:
    """Train until the run ends, or is enough, while `faults` happen to it.

    Raises TrainerError after `patience` seconds without a step that is new to the run.
    """
    story = Story()
    injector = Injector(faults, agents, story, parent=os.getpid(), on_fault=on_fault)
    started = heard = time.monotonic()
    progress: object = None
    try:
        while True:
            for event in agents.look():
                story.add(event)
            code = agents.code
            if code is not None or is_enough(injector, story):
                seconds = time.monotonic() - started
                injector.follow()
                return Trained(story, seconds, code, injector.fired)
            injector.look()
            now = (story.step, story.stages, len(injector.fired))
            if now != progress:
                progress, heard = now, time.monotonic()
            elif time.monotonic() > heard + patience:
                raise TrainerError(_stalled(patience, story, agents))
            time.sleep(_LOOK_SECONDS)
    finally:
        injector.close()
        agents.close(signal.SIGKILL)


def _stalled(patience: float, story: Story, agents: Agents) -> str:
    return (
        f"no new step for {patience:g} s, after step {story.step} of {story.target}: raise "
        f"--patience if that may be, else this run hangs:\n{agents.describe()}"
    )
