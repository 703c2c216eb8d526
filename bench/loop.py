"""Throughput of `trainer train` against bare `keras.Model.fit`, whichever of its modes is faster.

Ours runs as a whole: a checkpoint a turn in the background, metrics served, progress events, the
check for NaN. The save is waited for, within the turn. All are started several times: a process
keeps its luck for life, and single starts of the same code gave 0.96 and 1.02.
"""

import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from bench.pairs import Result, median_ratio, noise_floor, run_alone, take_turns
from bench.turns import child


@dataclass(frozen=True)
class Work:
    """A model and a turn, which is some epochs of `num_records` in whole batches."""

    name: str
    aim: float
    filters: int
    pool: int
    batch_size: int
    num_records: int
    epochs: int
    rounds: int
    starts: int = 3

    @property
    def num_steps(self) -> int:
        """Steps of one turn."""
        return self.epochs * self.num_records // self.batch_size


SMALL = Work(
    "loop_small", 1.2, filters=16, pool=4, batch_size=32, num_records=4992, epochs=4, rounds=8
)  # fmt: skip
COMPUTE_BOUND = Work(
    "loop_compute_bound", 0.97, filters=64, pool=2, batch_size=256, num_records=3840, epochs=4,
    rounds=3,
)  # fmt: skip


def measure(work: Work) -> list[Result]:
    """Steps per second, ours / fit."""
    seconds: dict[str, list[float]] = {}
    for _ in range(work.starts):
        for name, turns in _one_start(work).items():
            seconds.setdefault(name, []).extend(turns)
    ratios = {name: median_ratio(seconds[name], seconds["ours"]) for name in seconds}
    fastest = min(("fit, jit auto", "fit, jit off"), key=ratios.__getitem__)
    details = {
        name: f"{1000 * median(turns) / work.num_steps:.2f} ms/step"
        for name, turns in seconds.items()
        if name != "ours again"
    }
    noise = noise_floor(seconds["ours"], seconds["ours again"])
    return [Result(work.name, ratios[fastest], noise, work.aim, "higher", details)]


def _one_start(work: Work) -> dict[str, list[float]]:
    """Seconds of the turns of processes started together, by contestant."""
    with tempfile.TemporaryDirectory(prefix="bench-loop-") as folder, ExitStack() as children:
        commands = {
            "ours": _ours(work, Path(folder) / "a"),
            "ours again": _ours(work, Path(folder) / "b"),
            "fit, jit auto": _fit(work, "auto"),
            "fit, jit off": _fit(work, "off"),
        }
        turns = {name: children.enter_context(child(command)) for name, command in commands.items()}
        return take_turns(turns, rounds=work.rounds, warm_ups=1)


def _ours(work: Work, folder: Path) -> Callable[[int, int], Sequence[str]]:
    def command(go: int, done: int) -> Sequence[str]:
        folder.mkdir()
        config = folder / "run.yaml"
        config.write_text(
            f"recipe: bench.convnet:recipe\n"
            f"params: {{filters: {work.filters}, pool: {work.pool}}}\n"
            f"run: {{dir: {folder / 'run'}}}\n"
            f"data: {{url: 'builtin:fashion_mnist', train: 'train[:{work.num_records}]',"
            f" batch_size: {work.batch_size}}}\n"
            f"train: {{epochs: 1000000}}\n"
            f"checkpoint: {{every_epochs: {work.epochs}}}\n"
            f"metrics: {{port: 0}}\n"
            f"callbacks: [{{name: 'bench.turns:TurnTaker', stateless: true,"
            f" args: {{go: {go}, done: {done}, epochs: {work.epochs}}}}}]\n",
            encoding="utf-8",
        )
        return [sys.executable, "-m", "trainer", "worker", "-c", str(config)]

    return command


def _fit(work: Work, jit: str) -> Callable[[int, int], Sequence[str]]:
    sizes = map(str, (work.filters, work.pool, work.batch_size, work.num_records, work.epochs))

    def command(go: int, done: int) -> Sequence[str]:
        return [sys.executable, "-m", "bench.plain_fit", str(go), str(done), jit, *sizes]

    return command


MEASURES: dict[str, Callable[[], list[Result]]] = {
    work.name: lambda work=work: measure(work)  # type: ignore[misc]
    for work in (SMALL, COMPUTE_BOUND)
}

if __name__ == "__main__":
    run_alone(MEASURES, about=__doc__)
