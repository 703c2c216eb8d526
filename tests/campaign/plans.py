"""Which trainings there are, and what is done to them: a pure function of a seed."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

STORES = ("local", "gs")
# Numbers of workers, one after the other.
WORLDS = ((1,), (2,), (3,), (1, 3), (2, 1), (2, 3), (3, 2), (3, 1, 2))
# Epochs are of 40 steps. So many of them that kills have room to be random in, and that a run is
# not over before they have happened.
EPOCHS_PER_KILL, LEAST_EPOCHS = 3, 5


@dataclass(frozen=True)
class World:
    """Workers of each leg of a training, and the epoch with which it ends."""

    workers: tuple[int, ...]
    epochs: tuple[int, ...]

    def __str__(self) -> str:
        return "-".join(str(number) for number in self.workers)


@dataclass(frozen=True)
class Plan:
    """One training that is disturbed: `kills` in each of its legs, chosen by `seed`."""

    number: int
    world: World
    store: str
    kills: tuple[int, ...]
    seed: int

    def __str__(self) -> str:
        return f"{self.number}-{self.store}-{self.world}"


def plans(seed: int, kills: int, each: int, stores: Sequence[str] = STORES) -> list[Plan]:
    """So many that they have `kills` kills, about `each` in one.

    Those of more kills begin with those of fewer, and those on one store are among those on both.
    """
    found, total = [], 0
    for plan in _endless(seed, each):
        if total >= kills:
            break
        if plan.store in stores:
            found.append(plan)
            total += sum(plan.kills)
    return found


def _endless(seed: int, each: int) -> Iterator[Plan]:
    """Round after round of all worlds on all stores."""
    chance = random.Random(seed)
    number = 0
    while True:
        both = list(product(WORLDS, STORES))
        chance.shuffle(both)
        for workers, store in both:
            number += 1
            most = max(1, each // len(workers))
            epochs = max(LEAST_EPOCHS, most * EPOCHS_PER_KILL)
            world = World(workers, tuple(epochs * leg for leg, _ in enumerate(workers, start=1)))
            kills = tuple(chance.randint(max(1, most * 4 // 5), most) for _ in workers)
            yield Plan(number, world, store, kills, chance.randrange(2**31))
