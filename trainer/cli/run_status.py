"""`trainer runs list` and `status`: how runs stand, from their folders alone."""

import time
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from trainer.cli.options import examples, follow_parents, json_option, print_json, run_argument
from trainer.durations import in_words
from trainer.errors import ConfigError, TrainerError

if TYPE_CHECKING:
    from trainer.run.facts import RunFacts
    from trainer.storage import Storage

_MOST_RESTARTS = 10


@click.command(
    name="list",
    epilog=examples(
        "trainer runs list runs",
        "trainer runs list gs://my-bucket/runs",
        "trainer runs list gs://my-bucket/runs --json",
    ),
)
@click.argument("folder", callback=follow_parents)
@json_option
def list_(folder: str, as_json: bool) -> None:
    """All runs right below FOLDER: how far they are, their goodput, their restarts."""
    from trainer.cli.tables import print_table, printable
    from trainer.run.facts import UNREADABLE
    from trainer.storage import open_storage
    from trainer.storage.parallel import in_parallel

    storage = open_storage(folder)
    names = storage.folders()
    reads = [partial(_facts_of_any, f"{folder.rstrip('/')}/{name}") for name in names]
    runs = [facts for facts in in_parallel(reads) if facts is not None]
    if as_json:
        print_json([_as_json(facts) for facts in runs])
    elif runs:
        print_table(
            ("RUN", "STATE", ">STEP", ">LEFT", "LAST CHECKPOINT", ">GOODPUT", ">RESTARTS"),
            [row(facts) for facts in runs],
        )
    if not runs:
        click.echo(f"no runs right below {folder}{_why_none(folder, storage)}", err=as_json)
    for facts in [] if as_json else runs:
        if facts.state == UNREADABLE:
            click.echo(f"{facts.name}: {printable('; '.join(facts.problems))}")


def _why_none(folder: str, storage: "Storage") -> str:
    from trainer.storage import is_remote

    if next(iter(storage.list()), None) is None:
        is_file = not is_remote(folder) and Path(folder).is_file()
        is_there = not is_remote(folder) and Path(folder).is_dir()
        return ": it is a file" if is_file else "" if is_there else ": there is no such folder"
    return f": it is a run itself, see trainer runs status {folder}" if is_run(folder) else ""


@click.command(
    epilog=examples(
        "trainer runs status runs/local",
        "trainer runs status gs://my-bucket/runs/demo --json",
    )
)
@run_argument
@json_option
def status(run_dir: str, as_json: bool) -> None:
    """How a run stands: progress, last checkpoint, what its time went to, why it restarted."""
    from trainer.cli.tables import print_facts, print_table

    facts = facts_of(run_dir)
    if as_json:
        print_json(_as_json(facts))
        return
    print_facts(told(facts))
    if facts.goodput is not None:
        click.echo()
        wall = facts.ledger.wall_seconds
        spent = sorted(facts.ledger.seconds.items(), key=lambda item: -item[1])
        print_table(
            ("CAUSE", ">TIME", ">SHARE"),
            [(cause, in_words(value), _share(value / wall)) for cause, value in spent if value],
        )
    if facts.ended:
        click.echo()
        print_table(
            (">GENERATION", ">FROM STEP", ">TO STEP", "ENDED", "WHY"),
            [_ended(life) for life in facts.ended[-_MOST_RESTARTS:]],
        )


def facts_of(run_dir: str) -> "RunFacts":
    """What a run's folder says now. Raises ConfigError where there is no run."""
    from trainer.run.facts import read_facts
    from trainer.run.run_dir import RunDir

    return read_facts(RunDir(run_dir), whole=False)


def _facts_of_any(url: str) -> "RunFacts | None":
    """None of a folder that is no run; of one that cannot be read, why, for the others' sake."""
    from trainer.run.facts import UNREADABLE, RunFacts

    try:
        return facts_of(url) if is_run(url) else None
    except Exception as error:
        told = str(error) if isinstance(error, TrainerError) else f"{type(error).__name__}: {error}"
        return RunFacts(url, url.rpartition("/")[2], UNREADABLE, problems=(told,))


def is_run(url: str) -> bool:
    """Whether a run has begun there."""
    from trainer.run.run_dir import RunDir

    try:
        RunDir(url).check_exists()
    except ConfigError:
        return False
    return True


def _as_json(facts: "RunFacts") -> dict[str, Any]:
    last = facts.last_checkpoint
    return {
        "name": facts.name, "url": facts.url, "state": facts.state, "holder": facts.holder,
        "because": facts.because, "step": facts.step, "reached": facts.reached,
        "target": facts.target, "epochs": facts.epochs,
        "eta_seconds": facts.eta_seconds,
        "checkpoint": None if last is None else {"step": last.step, "created": last.created},
        "goodput": facts.goodput, "wall_seconds": facts.ledger.wall_seconds,
        "seconds": facts.ledger.seconds, "restarts": facts.restarts,
        "generations": [asdict(generation) for generation in facts.ledger.generations],
        "problem": facts.problems[0] if facts.problems else None,
        "problems": list(facts.problems),
    }  # fmt: skip


def row(facts: "RunFacts") -> tuple[str, ...]:
    """How it stands, in the columns of `list`."""
    from trainer.run.facts import UNREADABLE

    if facts.state == UNREADABLE:
        return (facts.name, facts.state, *[""] * 5)
    return (
        facts.name, facts.state, _progress(facts), _left(facts), _checkpoint(facts),
        "" if facts.goodput is None else _share(facts.goodput), f"{facts.restarts}",
    )  # fmt: skip


def told(facts: "RunFacts") -> list[tuple[str, str]]:
    """How it stands, as names and values."""
    rows = [
        ("run", facts.url),
        ("state", facts.state + (f", held by {facts.holder}" if facts.holder else "")),
        ("because", facts.because),
        ("step", _progress(facts) + _lost(facts)),
        ("left", _left(facts)),
        ("checkpoint", _checkpoint(facts)),
        ("goodput", "" if facts.goodput is None else _goodput(facts)),
        ("restarts", f"{facts.restarts}"),
        *(("problem", problem) for problem in facts.problems),
    ]
    return [(name, value) for name, value in rows if value]


def _goodput(facts: "RunFacts") -> str:
    return f"{_share(facts.goodput or 0.0)} of {in_words(facts.ledger.wall_seconds)}"


def _progress(facts: "RunFacts") -> str:
    if not facts.target:
        return f"{facts.step:,}"
    return f"{facts.step:,} of {facts.target:,} ({_share(facts.step / facts.target)})"


def _lost(facts: "RunFacts") -> str:
    return f", {facts.reached:,} were reached" if facts.reached > facts.step else ""


def _left(facts: "RunFacts") -> str:
    return "" if facts.eta_seconds is None else f"about {in_words(facts.eta_seconds)}"


def _checkpoint(facts: "RunFacts") -> str:
    last = facts.last_checkpoint
    if last is None or last.created is None:
        return "none"
    return f"step {last.step:,}, {in_words(time.time() - last.created)} ago"


def _ended(life: Any) -> tuple[str, ...]:
    from trainer.cli.tables import local_time
    from trainer.goodput import LOST

    spent = life.spent
    unknown = "" if spent is None else LOST
    return (
        f"{life.number}", "" if life.restored is None else f"{life.restored:,}",
        "" if spent is None else f"{spent.step:,}",
        "" if life.ended is None else local_time(life.ended),
        ": ".join(filter(None, (life.reason or unknown, life.detail))),
    )  # fmt: skip


def _share(share: float) -> str:
    return f"{100 * share:.0f} %"
