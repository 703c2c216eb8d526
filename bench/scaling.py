"""Examples per second of two workers that train as one, each on a core of its own, against one.

All are `trainer worker` processes with one thread, pinned to a core each, with the same batch per
worker; their own clocks time whole epochs in the steady state, without saves. While one worker has
its turn, the other core is idle. So 2 is the most that two can reach, and less is lost to what the
cores share (memory, the last cache, the clock rate) and to being one group.

Two more workers, on the same cores and at the same time, that know nothing of each other tell
these losses apart. `scaling_group_share_*` is the share of a group's step that they do without.
That is everything that a group adds: the all-reduce of gradients, packing them, waiting at every
step for the slower worker, weighing the replicas' losses, adding up the logs, and the ballot of
each call. So it is an upper bound of what the all-reduce takes, on loopback; of a network between
the workers it tells nothing. What shared memory costs both is not in it.
"""

import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

from bench.pairs import Result, Turn, median_ratio, noise_floor, run_alone, take_turns
from bench.turns import child
from tests.emulator import free_port
from trainer.cluster import tf_config


@dataclass(frozen=True)
class Work:
    """A model and a turn, which is some epochs of so many steps."""

    name: str
    aim: float
    share_aim: float
    filters: int
    pool: int
    batch_size: int  # of one worker
    steps: int  # of an epoch
    epochs: int  # of a turn
    rounds: int
    starts: int = 2

    @property
    def num_steps(self) -> int:
        """Steps of one turn."""
        return self.epochs * self.steps

    @property
    def num_examples(self) -> int:
        """Examples of one worker in a turn."""
        return self.batch_size * self.num_steps


SMALL = Work(
    "small", 1.0, 0.5, filters=16, pool=4, batch_size=32, steps=75, epochs=8, rounds=5
)  # fmt: skip
COMPUTE_BOUND = Work(
    "compute_bound", 1.7, 0.1, filters=64, pool=2, batch_size=256, steps=6, epochs=2, rounds=5
)  # fmt: skip


def measure(work: Work) -> list[Result]:
    """Examples/s of a group of two / of one, and the share of its steps that being one takes."""
    if len(_cores()) < 2:
        print("bench.scaling needs Linux and two cores: left out", file=sys.stderr)
        return []
    seconds: dict[str, list[float]] = {}
    for _ in range(work.starts):
        for name, turns in _one_start(work).items():
            seconds.setdefault(name, []).extend(turns)
    ones = median_ratio(seconds["one"], seconds["group"])
    aparts = median_ratio(seconds["apart"], seconds["group"])
    noise = noise_floor(seconds["group"], seconds["group again"])
    sizes = {"one": 1, "group": 2, "apart": 2}
    speeds = {
        name: f"{size * work.num_examples / median(seconds[name]):,.0f} examples/s"
        for name, size in sizes.items()
    }
    speeds["apart / one"] = f"{2 * median_ratio(seconds['one'], seconds['apart']):.3g}"
    steps = {name: f"{1000 * median(seconds[name]) / work.num_steps:.2f} ms/step" for name in sizes}
    share = f"scaling_group_share_{work.name}"
    return [
        Result(f"scaling_{work.name}", 2 * ones, noise, work.aim, "higher", speeds),
        Result(share, 1 - aparts, noise, work.share_aim, "lower", steps),
    ]


def _one_start(work: Work) -> dict[str, list[float]]:
    """Seconds of the turns of processes started together, by contestant."""
    with tempfile.TemporaryDirectory(prefix="bench-scaling-") as folder, ExitStack() as children:

        def worker(name: str, core: int, environ: dict[str, str] | None = None) -> Turn:
            config = Path(folder) / f"{name}-{core}.yaml"
            command = _command(work, config, Path(folder) / name, 2 if environ else 1)
            with _pinned(core):
                return children.enter_context(child(command, environ))

        def group(name: str) -> Turn:
            addresses = tuple(f"127.0.0.1:{free_port()}" for _ in range(2))
            environs = [{"TF_CONFIG": tf_config(addresses, number)} for number in range(2)]
            return _together(
                [worker(name, core, environs[number]) for number, core in enumerate(_cores())]
            )

        turns = {
            "one": worker("one", _cores()[0]),
            "group": group("group"),
            "group again": group("again"),
            "apart": _together([worker(f"apart{core}", core) for core in _cores()]),
        }
        return take_turns(turns, rounds=work.rounds, warm_ups=2)


def _together(turns: Sequence[Turn]) -> Turn:
    """A turn of all at once: seconds of the slowest."""

    def turn() -> float:
        with ThreadPoolExecutor(len(turns)) as pool:
            return max(pool.map(lambda one: one(), turns))

    return turn


def _cores() -> list[int]:
    """Two that this process may use; fewer where there are none, or nothing can be pinned."""
    return sorted(os.sched_getaffinity(0))[:2] if hasattr(os, "sched_getaffinity") else []


@contextmanager
def _pinned(core: int) -> Iterator[None]:
    """What is started inside of this block runs on that core, with all its threads."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _command(
    work: Work, config: Path, run_dir: Path, num_workers: int
) -> Callable[[int, int], Sequence[str]]:
    batch_size = num_workers * work.batch_size

    def command(go: int, done: int) -> Sequence[str]:
        config.write_text(
            f"recipe: bench.convnet:recipe\n"
            f"params: {{filters: {work.filters}, pool: {work.pool}}}\n"
            f"run: {{dir: {run_dir}}}\n"
            f"data: {{url: 'builtin:fashion_mnist', train: 'train[:{batch_size * work.steps}]',"
            f" batch_size: {batch_size}}}\n"
            f"train: {{epochs: 1000000, threads: 1}}\n"
            f"checkpoint: {{every_epochs: null}}\n"
            f"metrics: {{port: 0}}\n"
            f"callbacks: [{{name: 'bench.turns:TurnTaker', stateless: true,"
            f" args: {{go: {go}, done: {done}, epochs: {work.epochs}}}}}]\n",
            encoding="utf-8",
        )
        # The callbacks of two workers of a run differ in their pipes.
        allowed = ["--allow-change", "callbacks"]
        return [sys.executable, "-m", "trainer", "worker", "-c", str(config), *allowed]

    return command


MEASURES: dict[str, Callable[[], list[Result]]] = {}
for work in (SMALL, COMPUTE_BOUND):
    names = (f"scaling_{work.name}", f"scaling_group_share_{work.name}")
    MEASURES |= dict.fromkeys(names, partial(measure, work))

if __name__ == "__main__":
    run_alone(MEASURES, about=__doc__)
