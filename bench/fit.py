"""Throughput of `trainer.fit` against `model.fit` of the same script, which has arrays.

Ours by `trainer worker`: a checkpoint a turn in the background, progress, the check for NaN; the
save is waited for, within the turn. Keras' saves nothing. Started and taken turns as bench.loop.
"""

import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from statistics import median

from bench.loop import COMPUTE_BOUND as LOOP_COMPUTE_BOUND
from bench.loop import SMALL as LOOP_SMALL
from bench.loop import Work
from bench.pairs import Result, median_ratio, noise_floor, run_alone, take_turns
from bench.turns import child

SMALL = replace(LOOP_SMALL, name="fit_small")
COMPUTE_BOUND = replace(LOOP_COMPUTE_BOUND, name="fit_compute_bound")
_SCRIPT = Path(__file__).with_name("fit_script.py")


def measure(work: Work) -> list[Result]:
    """Steps per second, ours / Keras'."""
    seconds: dict[str, list[float]] = {}
    for _ in range(work.starts):
        for name, turns in _one_start(work).items():
            seconds.setdefault(name, []).extend(turns)
    details = {
        name: f"{1000 * median(turns) / work.num_steps:.2f} ms/step"
        for name, turns in seconds.items()
        if name != "trainer.fit again"
    }
    ours = seconds["trainer.fit"]
    ratio = median_ratio(seconds["model.fit"], ours)
    noise = noise_floor(ours, seconds["trainer.fit again"])
    return [Result(work.name, ratio, noise, work.aim, "higher", details)]


def _one_start(work: Work) -> dict[str, list[float]]:
    with tempfile.TemporaryDirectory(prefix="bench-fit-") as folder, ExitStack() as children:
        commands = {
            "trainer.fit": _command(work, "trainer", folder, "a"),
            "trainer.fit again": _command(work, "trainer", folder, "b"),
            "model.fit": _command(work, "keras", folder),
        }
        quiet = {"TF_CPP_MIN_LOG_LEVEL": os.environ.get("TF_CPP_MIN_LOG_LEVEL", "2")}
        turns = {
            name: children.enter_context(child(command, quiet))
            for name, command in commands.items()
        }
        return take_turns(turns, rounds=work.rounds, warm_ups=1)


def _command(
    work: Work, who: str, folder: str, name: str = ""
) -> Callable[[int, int], Sequence[str]]:
    sizes = map(str, (work.filters, work.pool, work.batch_size, work.num_records, work.epochs))
    settings = (
        f"run.dir={folder}/{name}", f"checkpoint.every_epochs={work.epochs}", "metrics.port=0",
    )  # fmt: skip
    ours = ["-m", "trainer", "worker", *(f"--set={setting}" for setting in settings), "--"]

    def command(go: int, done: int) -> Sequence[str]:
        start = ours if who == "trainer" else []
        return [sys.executable, *start, str(_SCRIPT), who, str(go), str(done), *sizes]

    return command


MEASURES: dict[str, Callable[[], list[Result]]] = {
    work.name: lambda work=work: measure(work)  # type: ignore[misc]
    for work in (SMALL, COMPUTE_BOUND)
}

if __name__ == "__main__":
    run_alone(MEASURES, about=__doc__)
