"""`make campaign`: kills trainings again and again, and sees that nothing is lost."""

import os
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from tests.campaign.conduct import Legs, train_disturbed, train_undisturbed
from tests.campaign.page import page
from tests.campaign.plans import STORES, Plan, World, plans
from tests.campaign.results import (
    RESULTS,
    ROOT,
    Outcome,
    Results,
    Undisturbed,
    open_results,
    this_head,
)  # fmt: skip
from tests.campaign.stage import Stage, stage
from trainer.cli.options import apply_options, examples
from trainer.durations import in_words
from trainer.errors import TrainerError
from trainer.log import configure_logging, get_log

_COUNT = click.IntRange(1, 1_000_000)


@dataclass
class Campaign:
    """What is to be done, and what is done. deadline: monotonic, None where there is none."""

    plans: Sequence[Plan]
    results: Results
    stage: Stage
    deadline: float | None
    log: Any

    def run(self) -> None:
        """All that is left, until the deadline."""
        for plan in self.plans:
            if self.deadline is not None and time.monotonic() > self.deadline:
                return
            if plan not in self.results.all_outcomes:
                self._train(plan)

    def _train(self, plan: Plan) -> None:
        world = plan.world
        if world not in self.results.undisturbed:
            self._train_undisturbed(world)
        self.log.info("training", name=str(plan), of=len(self.plans), kills=sum(plan.kills))
        name = f"training-{plan}"
        with self.stage.place(name, plan.store) as (folder, run_dir):
            legs = Legs(world, folder, run_dir, self.stage.start, self.log)
            outcome = train_disturbed(plan, legs, self.results.undisturbed[world])
            for problem in outcome.problems:
                self.log.error("problem", what=problem)
            if outcome.problems:
                self.log.error("kept", folders=[str(path) for path in self.stage.keep(name)])
        self.keep(outcome)
        self.log.info("equal" if not outcome.problems else "NOT EQUAL", **self._progress())

    def _train_undisturbed(self, world: World) -> None:
        self.log.info("undisturbed training", workers=str(world))
        with self.stage.place(f"undisturbed-{world}", "local") as (folder, run_dir):
            legs = Legs(world, folder, run_dir, self.stage.start, self.log)
            self.keep(train_undisturbed(legs))

    def keep(self, line: Undisturbed | Outcome) -> None:
        """Raises TrainerError when it may be of other code than what was kept before."""
        if this_head().key != self.results.head.key:
            raise TrainerError("the code has changed since the start, so this does not count")
        self.results.add(line)

    def _progress(self) -> dict[str, str]:
        found = self.results.all_outcomes
        done = [found[plan] for plan in self.plans if plan in found]
        left = sum(sum(plan.kills) for plan in self.plans if plan not in found)
        kills = sum(len(outcome.kills) for outcome in done)
        seconds = sum(outcome.seconds for outcome in done) / max(1, kills) * left
        return {"kills": f"{kills} of {kills + left}", "left": in_words(seconds)}


@click.command(
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=examples(
        "make campaign",
        'make campaign ARGS="--minutes 60"        # and again, another day: it goes on',
        'make campaign ARGS="--kills 100 --only gs"',
    ),
)
@apply_options(
    click.option("--kills", type=_COUNT, default=1000, show_default=True, metavar="N",
                 help="Kill so often; a few more, so that the last training is a whole one."),
    click.option("--each", type=_COUNT, default=20, show_default=True, metavar="N",
                 help="Kill so often, or a fifth less, in one training."),
    click.option("--minutes", type=click.FloatRange(0), metavar="M",
                 help="Begin no other training after so long."),
    click.option("--only", type=click.Choice(STORES), help="Keep runs in one kind of store."),
    click.option("--seed", type=int, default=0, show_default=True,
                 help="Chooses trainings, victims and moments."),
    click.option("--to", type=click.Path(path_type=Path, file_okay=False), metavar="FOLDER",
                 help="Keep results and page there, not in docs/results/campaign/ and docs/."),
)  # fmt: skip
def campaign(
    kills: int, each: int, minutes: float | None, only: str | None, seed: int, to: Path | None
) -> None:
    """Kill trainings at random moments, on one to three workers, in a folder and in a bucket.

    Goes on where it was stopped, as long as code and versions are the same: keep a checkout of its
    own for it. Ctrl-C or SIGTERM ends it: the training of that moment leaves
    nothing behind, and is done anew.

    Ends with 0 when all that was done had the result of the undisturbed run, also when --minutes
    were over; with 1 when one had not, whose folders are kept, and which is done again once its
    line is removed from the results; with 2 when it cannot begin.
    """
    wanted = plans(seed, kills, each, STORES if only is None else [only])
    if any(plan.store == "gs" for plan in wanted) and not shutil.which("fake-gcs-server"):
        raise click.UsageError("fake-gcs-server is missing: make tools, or --only local")
    try:
        results = open_results(to or RESULTS, this_head())
    except TrainerError as error:
        raise click.UsageError(str(error)) from error
    deadline = None if minutes is None else time.monotonic() + 60 * minutes
    try:
        with stage() as found:
            Campaign(wanted, results, found, deadline, get_log()).run()
    except TrainerError as error:  # there is nothing to compare with
        raise click.ClickException(str(error)) from error
    finally:
        _write_page(results, to)
    bad = [one for one in results.all_outcomes.values() if one.problems]
    click.get_current_context().exit(_told(wanted, results, bad))


def _told(wanted: Sequence[Plan], results: Results, bad: Sequence[Outcome]) -> int:
    left = sum(sum(plan.kills) for plan in wanted if plan not in results.all_outcomes)
    click.echo(f"{results.num_kills} kills, {left} left; {len(bad)} trainings not equal")
    for outcome in bad:
        click.echo(f"not equal: {outcome.plan}: {outcome.problems[0]}", err=True)
    return 1 if bad else 0


def _write_page(results: Results, to: Path | None) -> None:
    if not results.all_outcomes:
        return
    file = (to or ROOT / "docs") / "campaign.md"
    folder = "." if to else results.file.parent.relative_to(ROOT).as_posix()
    file.write_text(page(results, folder), encoding="utf-8")
    click.echo(f"written: {file}")


def _leave(number: int, _frame: object) -> None:
    raise click.exceptions.Exit(128 + number)


if __name__ == "__main__":
    os.environ["PATH"] = f"{ROOT / '.tools'}:{os.environ['PATH']}"
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _leave)
    configure_logging(as_json=not sys.stdout.isatty())
    campaign(prog_name="make campaign")
