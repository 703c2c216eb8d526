"""Seconds from SIGKILL to the next new step, of two workers on this machine, kill after kill.

A whole training by `trainer train`, as a cluster would run it: one agent a worker, each started
again at once when it was killed. 20 times the same kind of process is killed a second after a new
step was made, which is TensorFlow's import, a compilation and a restore each time. The logs of
agents and workers say when what happened; `trainer chaos` reads them in the same way.
"""

import os
import signal
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from bench.pairs import Result, run_alone
from trainer.chaos.agents import Agents
from trainer.chaos.campaign import train
from trainer.chaos.faults import Fault, Target
from trainer.chaos.injector import Injector
from trainer.chaos.result import MOMENTS
from trainer.chaos.story import Recovery, Story, summarize
from trainer.chaos.trial import PROGRESS_SECONDS

KILLS = 20
WORKERS = 2
# After a new step; a spare is started with that step, and has to be there.
PAUSE_SECONDS, PAUSE_OF_SPARE_SECONDS = 1.0, 8.0
DETECTED_AIM, P50_AIM, P95_AIM, GROWTH_AIM = 1.0, 4.5, 8.0, 1.25
P50_OF_SPARE_AIM = 2.5
PATIENCE_SECONDS = 300.0
# Which process is killed: the second worker's or its agent's, or agent 0, where the others gather;
# and a worker whose successor has imported TensorFlow already.
KINDS: dict[str, tuple[Target, int, str]] = {
    "worker": ("worker", 1, "run.warm_spare=false"),
    "agent": ("agent", 1, "run.warm_spare=false"),
    "leader": ("leader", 0, "run.warm_spare=false"),
    "spare": ("worker", 1, "run.warm_spare=true"),
}
SETTINGS = (
    "data.validation=null", "data.test=null", "export.formats=[]", "metrics.enabled=false",
    "train.epochs=10000", "checkpoint.every_steps=20", f"log.every_seconds={PROGRESS_SECONDS}",
)  # fmt: skip


def measure(kind: str) -> list[Result]:
    """Detection, the median, the 95th percentile, and the last kills against the first."""
    before = os.getloadavg()
    recoveries = kill_often(*KINDS[kind])
    seconds = [one.first_step for one in recoveries if one.first_step is not None]
    if len(seconds) < len(recoveries):
        raise RuntimeError(f"{len(recoveries) - len(seconds)} of {KILLS} kills were not survived")
    details = _details(recoveries, seconds) | {
        "load average": f"{before[0]:.1f} to {os.getloadavg()[0]:.1f}"
    }
    few = max(1, len(seconds) // 4)
    growth = median(seconds[-few:]) / median(seconds[:few])
    noise = median(abs(value / median(seconds) - 1) for value in seconds)
    found = dict(summarize(seconds))
    detected = dict(summarize([one.detected for one in recoveries]))["p95"]
    names = measures(kind)
    values = (detected, found["p50"], found["p95"], growth)
    p50_aim = P50_OF_SPARE_AIM if kind == "spare" else P50_AIM
    aims = (DETECTED_AIM, p50_aim, P95_AIM, GROWTH_AIM)
    return [
        Result(name, value, noise, aim, "lower", details if name == names[1] else {})
        for name, value, aim in zip(names, values, aims, strict=True)
    ]


def kill_often(target: Target, index: int, more: str) -> list[Recovery]:
    """One training, KILLS times disturbed, and broken off after that."""
    has_spare = more == "run.warm_spare=true"
    fault = Fault(
        "kill", target, index, at=1e-9, pause=PAUSE_OF_SPARE_SECONDS if has_spare else PAUSE_SECONDS
    )
    with tempfile.TemporaryDirectory(prefix="bench-recovery-") as folder:
        sets = [f"--set={setting}" for setting in (*SETTINGS, more, f"run.dir={folder}/run")]
        arguments = ["train", "--config=fashion_mnist", *sets, "--json"]
        agents = Agents(WORKERS, arguments, Path(folder, "logs"))
        trained = train(
            agents, [fault] * KILLS, patience=PATIENCE_SECONDS, is_enough=_has_recovered
        )
        if trained.code is not None:
            raise RuntimeError(f"the run ended with {trained.code}:\n{agents.describe()}")
    return trained.story.recoveries([fired.time for fired in trained.fired])


def _has_recovered(injector: Injector, story: Story) -> bool:
    last = injector.fired[-1].time if injector.fired else 0.0
    return injector.is_done and last < story.restored_at < story.advanced_at


def _details(recoveries: Sequence[Recovery], seconds: Sequence[float]) -> dict[str, Any]:
    spans = {name: summarize([getattr(one, name) for one in recoveries]) for name in MOMENTS}
    return {
        "kills": len(seconds),
        **{name: " / ".join(f"{value:.2f}" for _, value in spans[name]) + " s" for name in MOMENTS},
        "first": f"{seconds[0]:.2f} s",
        "last": f"{seconds[-1]:.2f} s",
    }


def measures(kind: str) -> tuple[str, str, str, str]:
    """Names of what `measure` returns."""
    name = f"recovery_{kind}"
    return f"{name}_detected", f"{name}_p50", f"{name}_p95", f"{name}_growth"


_WORK = {kind: partial(measure, kind) for kind in KINDS}
MEASURES = {name: work for kind, work in _WORK.items() for name in measures(kind)}

if __name__ == "__main__":
    # `finally` ends the agents.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    run_alone(MEASURES, about=__doc__)
