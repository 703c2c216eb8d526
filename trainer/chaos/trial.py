"""A run that nothing happens to, the same run with faults, and the comparison of both."""

import random
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer.chaos.agents import Agents, StartAgent
from trainer.chaos.campaign import Trained, train
from trainer.chaos.faults import Amount, Fault, Pace, plan
from trainer.chaos.injector import Fired
from trainer.chaos.result import Calm, Result, calm_of, read_ending
from trainer.config import RunConfig
from trainer.errors import ConfigError, TrainerError
from trainer.run.ledger import read
from trainer.run.removal import delete_run
from trainer.run.run_dir import RunDir
from trainer.storage import is_remote, open_storage

# Seconds until a cluster has started another pod; short, since nobody is to wait for it here.
_RESTART_SECONDS = (0.0, 2.0)
_LONGEST_PAUSE_SECONDS = 1.0
# Workers are told to say where they are so often.
PROGRESS_SECONDS = 0.2


def run_dirs(config: RunConfig) -> tuple[str, str]:
    """Folders of the disturbed and the undisturbed run."""
    own = config.run.dir.rstrip("/")
    return f"{own}-disturbed", f"{own}-undisturbed"


def check_trial(config: RunConfig) -> None:
    """ConfigError when it cannot be tried."""
    if config.run.max_restarts == 0:
        raise ConfigError(
            "run.max_restarts is 0, so that the first killed worker ends the run with code 7: "
            "raise it"
        )
    for run in run_dirs(config):
        if next(iter(RunDir(run).storage.list()), None) is not None:
            raise ConfigError(
                f"{run} is there already, maybe of a try that was interrupted: "
                f"`trainer runs delete {run}`, or choose another run.dir"
            )


@dataclass(frozen=True)
class Trial:
    """`arguments` are those of `trainer train`, to which run.dir is added; logs go to `folder`.

    script: of `trainer run` instead, its file and its arguments.
    """

    config: RunConfig
    num_workers: int
    amount: Amount
    seed: int
    arguments: Sequence[str]
    folder: Path
    patience: float
    start: StartAgent
    log: Any
    script: Sequence[str] = ()

    @property
    def runs(self) -> tuple[str, str]:
        """Folders of the disturbed and the undisturbed run."""
        return run_dirs(self.config)

    def run(self) -> Result:
        """Train twice. Raises TrainerError, with a run's own code, unless both are complete."""
        return self.disturbed(self.undisturbed())

    def undisturbed(self) -> Calm:
        """Train, and let nothing happen."""
        _, run = self.runs
        self.log.info("undisturbed run", dir=run, logs=str(self.folder))
        trained = self._train(run)
        ending = read_ending(run)
        self.log.info("undisturbed run complete", steps=ending.steps, seconds=_short(trained))
        return calm_of(trained, ending)

    def disturbed(self, calm: Calm) -> Result:
        """Train while faults happen, beside what the undisturbed run came to."""
        run, _ = self.runs
        faults = plan(self.amount, self.num_workers, self._pace(calm), seed=self.seed)
        self.log.info("disturbed run", dir=run, faults=len(faults), seed=self.seed)
        # A run may have been trained before, to an earlier epoch.
        before, began = read(open_storage(run)), time.time()
        trained = self._train(run, faults)
        ending = read_ending(run)
        self.log.info("disturbed run complete", steps=ending.steps, seconds=_short(trained))
        after = read(open_storage(run))
        goodput = {cause: after.seconds[cause] - before.seconds[cause] for cause in after.seconds}
        first = after.generations[len(before.generations)]
        return Result(len(faults), trained, ending, calm, goodput, max(0.0, first.start - began))

    def remove(self) -> None:
        """Both runs and all logs."""
        for run in self.runs:
            delete_run(RunDir(run))
            if not is_remote(run):
                # Empty folders of saves that were killed.
                shutil.rmtree(run, ignore_errors=True)
        shutil.rmtree(self.folder)

    def _train(self, run: str, faults: Sequence[Fault] = ()) -> Trained:
        chance = random.Random(f"restarts {self.seed}")
        own = (
            f"--set=run.dir={run}", f"--set=log.every_seconds={PROGRESS_SECONDS}",
            # One port would do for one agent alone, and the last scrape would be waited for.
            "--set=metrics.enabled=false",
            # Another number of workers makes another result.
            "--set=cluster.min_workers=null", "--json",
            *(["--", *self.script] if self.script else []),
        )  # fmt: skip
        agents = Agents(
            self.num_workers, [*self.arguments, *own], self.folder / run.rpartition("-")[2],
            start=self.start,
            restart=lambda: chance.uniform(*_RESTART_SECONDS),
        )  # fmt: skip
        trained = train(agents, faults, patience=self.patience, on_fault=self._teller(faults))
        if trained.code != 0:
            raise _RunError(trained.code or 1, agents)
        return trained

    def _teller(self, faults: Sequence[Fault]) -> Callable[[Fired], None]:
        count = iter(range(1, len(faults) + 1))

        def tell(fired: Fired) -> None:
            self.log.info(
                "fault", number=next(count), of=len(faults), what=str(fired.fault),
                step=fired.step, pid=fired.pid,
            )  # fmt: skip

        return tell

    def _pace(self, calm: Calm) -> Pace:
        pause = min(0.3 * calm.making_steps / self.amount.total, _LONGEST_PAUSE_SECONDS)
        return Pace(
            pause=pause, recovery=max(calm.seconds - calm.making_steps, 1.0),
            in_a_row=min(2, self.config.run.max_restarts),
        )  # fmt: skip


class _RunError(TrainerError):
    """A run that ended with another code than 0, which becomes this one's."""

    def __init__(self, code: int, agents: Agents) -> None:
        super().__init__(f"the run ended with code {code}:\n{agents.describe()}")
        self.exit_code = code


def _short(trained: Trained) -> float:
    return round(trained.seconds, 1)
