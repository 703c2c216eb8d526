"""Which faults happen to a run, and when: a pure function of a seed.

A fault waits for a share of the run's steps, so that all of them happen before its end, and then a
random moment more; or it follows the one before within seconds, while the run is still recovering.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Action = Literal["kill", "stop", "freeze"]
Target = Literal["worker", "agent", "leader"]

# Later ones might find the run complete.
_LAST_SHARE = 0.85
_FOLLOWS = 0.25
_FROZEN_SECONDS = (0.5, 8.0)


@dataclass(frozen=True)
class Fault:
    """SIGKILL, SIGTERM (to agents alone) or SIGSTOP, to a worker's or an agent's process.

    at: the share of the run's steps that are made before it; None where it follows another one.
    pause: seconds after that. seconds: how long a process is frozen.
    """

    action: Action
    target: Target
    index: int
    at: float | None
    pause: float = 0.0
    seconds: float = 0.0

    def __str__(self) -> str:
        what = {"kill": "SIGKILL", "stop": "SIGTERM", "freeze": f"SIGSTOP {self.seconds:.1f} s"}
        who = "leader" if self.target == "leader" else f"{self.target} {self.index}"
        return f"{what[self.action]} to {who}"


@dataclass(frozen=True)
class Amount:
    """How many of each."""

    kills: int
    stops: int = 0
    freezes: int = 0

    @property
    def total(self) -> int:
        """Of all kinds."""
        return self.kills + self.stops + self.freezes


@dataclass(frozen=True)
class Pace:
    """Seconds: `pause`, the longest between a step and a fault; `recovery`, an undisturbed start.

    in_a_row: how many faults may happen without a new step.
    """

    pause: float
    recovery: float
    in_a_row: int


def plan(amount: Amount, num_workers: int, pace: Pace, *, seed: int) -> list[Fault]:
    """The faults in their order."""
    chance = random.Random(seed)
    counts: dict[Action, int] = {
        "kill": amount.kills, "stop": amount.stops, "freeze": amount.freezes
    }  # fmt: skip
    actions = [action for action, count in counts.items() for _ in range(count)]
    chance.shuffle(actions)
    targets = {action: _targets(action, num_workers, chance) for action in set(actions)}
    faults: list[Fault] = []
    row = 1
    for number, action in enumerate(actions):
        target, index = next(targets[action])
        row = row + 1 if faults and row < pace.in_a_row and chance.random() < _FOLLOWS else 1
        at = (number + chance.random()) / len(actions) * _LAST_SHARE if row == 1 else None
        pause = chance.uniform(0, pace.pause if row == 1 else pace.recovery)
        seconds = chance.uniform(*_FROZEN_SECONDS) if action == "freeze" else 0.0
        faults.append(Fault(action, target, index, at, pause, seconds))
    return faults


def _targets(
    action: Action, num_workers: int, chance: random.Random
) -> Iterator[tuple[Target, int]]:
    """In turn, so that a few faults already happen to all kinds of processes."""
    kinds: list[Target] = ["agent", "leader"] if num_workers > 1 else ["leader"]
    if action != "stop":
        kinds.append("worker")
    while True:
        chance.shuffle(kinds)
        for kind in kinds:
            first = 1 if kind == "agent" else 0
            index = 0 if kind == "leader" else chance.randrange(first, num_workers)
            yield kind, index
