"""docs/campaign.md: what files of results say. Pure."""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby

from tests.campaign.phases import PHASES
from tests.campaign.plans import Plan
from tests.campaign.results import ROOT, Kill, Outcome, Results, read_results
from trainer.chaos.result import MOMENTS
from trainer.chaos.story import summarize
from trainer.errors import TrainerError

VICTIMS = ("worker", "agent", "leader")
STORE_NAMES = {"local": "local folder", "gs": "`gs://`"}
HEAD = """\
# The campaign

<!-- Written by `make campaign` from {files}. -->

`make campaign` trains small runs, one after the other, on one to three workers, in local folders
and in a bucket (fake-gcs-server); in a part of them the number of workers changes on the way. All
the time, a process that a seed chooses gets a SIGKILL: a worker, an agent, or the leader, which is
agent 0. It can be stopped and goes on where it was. A result is equal when steps, history and the
sha256 over all weights and variables of the optimizer, after each number of workers, are those of
an undisturbed run of the same numbers of workers, changed at the same steps. That run was trained
once, in a local folder, for both kinds of stores. How kills are chosen, and what is measured:
[chaos.md](chaos.md).

"""


def page(results: Results, folder: str) -> str:
    """The whole page; `folder` is where its files are, from the repository's root."""
    done = results.all_outcomes
    outcomes = [done[plan] for plan in sorted(done, key=_number)]
    files = [f"{folder}/{each.file.name}" for each in (results, *results.others)]
    kills = [kill for outcome in outcomes for kill in outcome.kills]
    return "\n".join(
        [
            HEAD.format(files=" and ".join(files)) + _verdict(outcomes, kills),
            "", *_facts(results, outcomes, folder),
            "", "## Trainings", "", *_trainings(outcomes),
            "", "## Kills by victim and phase", "", *_phases(kills),
            "", "## Recovery", "", *_recovery(kills),
            "", "## Where the seconds went", "", *_goodput(outcomes), "",
        ]
    )  # fmt: skip


def rewritten(text: str) -> str:
    """The page `text` anew, from the results that it names. Raises TrainerError."""
    found = re.search(r"by `make campaign` from (.+)\. -->", text)
    if found is None:
        raise TrainerError("docs/campaign.md does not say from what it was written: make campaign")
    files = found[1].split(" and ")
    results, *others = (read_results(ROOT / file) for file in files)
    results.others = tuple(others)
    return page(results, files[0].rpartition("/")[0])


def _number(plan: Plan) -> int:
    return plan.number


def _verdict(outcomes: Sequence[Outcome], kills: Sequence[Kill]) -> str:
    bad = [outcome for outcome in outcomes if outcome.problems]
    said = f"**{len(kills):,} kills in {len(outcomes)} trainings: "
    if not bad:
        return f"{said}every result was equal.**"
    lines = [f"{said}{len(bad)} FAILED.**", ""]
    lines += [f"- {one.plan}: {_line(problem)}" for one in bad for problem in one.problems]
    return "\n".join(lines)


def _line(problem: str) -> str:
    return problem.partition("\n")[0][:300]


def _facts(results: Results, outcomes: Sequence[Outcome], folder: str) -> Iterator[str]:
    def num_kills(each: Results) -> str:
        return f"{sum(len(outcome.kills) for outcome in each.outcomes.values()):,}"

    head, folder = results.head, folder.removeprefix("docs/")
    machines = {
        f"numbers of {each.head.machine}": f"[{num_kills(each)} kills]({folder}/{each.file.name})"
        for each in (results, *results.others)
    }
    days = sorted({outcome.date[:10] for outcome in outcomes})
    hours = sum(outcome.seconds for outcome in outcomes) / 3600
    versions = ", ".join(f"{name} {version}" for name, version in head.versions.items())
    facts = {
        "commit": head.commit, "versions": versions,
        "days": " to ".join(dict.fromkeys([days[0], days[-1]])) if days else "-",
        "hours of disturbed trainings": f"{hours:.1f}", **machines,
    }  # fmt: skip
    yield from _table(["", ""], ([name, value] for name, value in facts.items()))


def _trainings(outcomes: Sequence[Outcome]) -> Iterator[str]:
    def kind(outcome: Outcome) -> tuple[tuple[int, ...], str]:
        return outcome.plan.world.workers, outcome.plan.store

    rows = []
    for (workers, store), found in groupby(sorted(outcomes, key=kind), key=kind):
        rows.append([", then ".join(map(str, workers)), STORE_NAMES[store], *_sums(list(found))])
    rows.append(["all", "", *_sums(outcomes)])
    columns = ("trainings", "equal", "kills", "starts", "steps", "lost", "redone")
    yield from _table(["workers", "run in", *(f">{name}" for name in columns)], rows)
    yield ""
    yield (
        "*Equal* also says that every kill hit a process, and that all seconds have a cause. "
        "*Starts* are generations of the group. *Lost* are steps that the undisturbed run has at "
        "its end and this one has not; *redone* were made more than once, since they came after "
        "the checkpoint that was gone on from."
    )


def _sums(outcomes: Sequence[Outcome]) -> list[str]:
    def total(count: Callable[[Outcome], int]) -> str:
        return f"{sum(map(count, outcomes)):,}"

    return [
        str(len(outcomes)), total(lambda one: not one.problems),
        total(lambda one: len(one.kills)), total(lambda one: one.starts),
        total(lambda one: one.steps), total(lambda one: one.lost_steps),
        total(lambda one: one.redone_steps),
    ]  # fmt: skip


def _phases(kills: Sequence[Kill]) -> Iterator[str]:
    count = Counter((kill.phase, kill.victim) for kill in kills)
    rows = [
        [phase, about, *(str(count[phase, victim]) for victim in VICTIMS),
         str(sum(count[phase, victim] for victim in VICTIMS))]
        for phase, about in PHASES.items()
    ]  # fmt: skip
    sums = [str(sum(kill.victim == victim for kill in kills)) for victim in VICTIMS]
    rows.append(["all", "", *sums, str(len(kills))])
    yield from _table(["phase", "", *(f">{victim}" for victim in VICTIMS), ">all"], rows)


def _recovery(kills: Sequence[Kill]) -> Iterator[str]:
    def kind(kill: Kill) -> tuple[int, int]:
        return kill.workers, VICTIMS.index(kill.victim)

    rows = []
    for (workers, victim), found in groupby(sorted(kills, key=kind), key=kind):
        rows.append([str(workers), VICTIMS[victim], *_moments(list(found))])
    rows.append(["all", "", *_moments(kills)])
    names = (name.replace("_", " ") for name in MOMENTS)
    columns = ("kills", "recovered", *names)
    yield "Seconds after the kill: p50 / p95 / max."
    yield ""
    yield from _table(["workers", "victim", *(f">{name}" for name in columns)], rows)
    yield ""
    yield "*Recovered* are those after which a new step was made before the next kill."


def _moments(kills: Sequence[Kill]) -> list[str]:
    recovered = sum(kill.first_step is not None for kill in kills)
    spans = (dict(summarize([getattr(kill, name) for kill in kills])) for name in MOMENTS)
    each = (" / ".join(f"{value:.2f}" for value in span.values()) or "-" for span in spans)
    return [f"{len(kills):,}", f"{recovered:,}", *each]


def _goodput(outcomes: Sequence[Outcome]) -> Iterator[str]:
    sums: Counter[str] = Counter()
    for outcome in outcomes:
        sums.update(outcome.goodput)
    wall = sum(sums.values()) or 1.0
    rows = [[f"`{cause}`", f"{value:,.0f}", f"{value / wall:.1%}"] for cause, value in sums.items()]
    yield "Of disturbed runs, by their ledgers ([goodput.md](goodput.md)); `step` is the goodput."
    yield ""
    yield from _table(["cause", ">seconds", ">share"], rows)


def _table(
    columns: Sequence[str], rows: Iterator[list[str]] | Sequence[list[str]]
) -> Iterator[str]:
    """A column whose name begins with > has numbers."""
    yield _row([name.removeprefix(">") for name in columns])
    yield "|" + "|".join("---:" if name.startswith(">") else "---" for name in columns) + "|"
    yield from map(_row, rows)


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
