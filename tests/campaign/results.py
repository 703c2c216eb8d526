"""What is kept of a campaign: one file for the same code on the same machine, one line a training.

A line is written when its training is over, so a campaign that was stopped goes on behind it, on
another machine in a file beside. A file that is damaged is refused: which of its numbers hold,
nobody knows.
"""

import hashlib
import json
import os
import platform
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from scripts.results import circumstances
from tests.campaign.plans import Plan, World
from trainer.chaos.result import Calm
from trainer.errors import TrainerError

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "docs" / "results" / "campaign"
# What the numbers may depend on, beside the versions and the machine.
CODE = ("trainer", "tests/campaign", "tests/emulator.py")
_SHOWS = ("__main__.py", "page.py")


@dataclass(frozen=True)
class Head:
    """The first line. `code` is that of the trainings; `key` differs where bits may, too."""

    code: str
    key: str
    date: str
    commit: str
    machine: str
    versions: Mapping[str, str]


@dataclass(frozen=True)
class Undisturbed:
    """What disturbed runs of this world are compared with, after each of its legs."""

    world: World
    legs: tuple[Calm, ...]


@dataclass(frozen=True)
class Kill:
    """One SIGKILL; seconds after it as in `trainer.chaos.story.Recovery`."""

    victim: str
    workers: int
    phase: str
    detected: float | None
    gathered: float | None
    restored: float | None
    first_step: float | None


@dataclass(frozen=True)
class Outcome:
    """One disturbed training; its result was equal where there are no problems."""

    plan: Plan
    date: str
    seconds: float
    problems: tuple[str, ...]
    kills: tuple[Kill, ...] = ()
    steps: int = 0
    lost_steps: int = 0
    redone_steps: int = 0
    starts: int = 0
    goodput: Mapping[str, float] = field(default_factory=dict)


_Line = Head | Undisturbed | Outcome
_KINDS: Mapping[str, type[_Line]] = {
    "head": Head, "undisturbed": Undisturbed, "outcome": Outcome
}  # fmt: skip


@dataclass
class Results:
    """A file and what it holds; others are of the same code, from other machines."""

    file: Path
    head: Head
    undisturbed: dict[World, Undisturbed] = field(default_factory=dict)
    outcomes: dict[Plan, Outcome] = field(default_factory=dict)
    others: "tuple[Results, ...]" = ()

    def add(self, line: _Line) -> None:
        """Keep it durably."""
        kind = next(name for name, its in _KINDS.items() if isinstance(line, its))
        tree = TypeAdapter(type(line)).dump_python(line, mode="json")
        with self.file.open("a", encoding="utf-8") as file:
            file.write(json.dumps({kind: tree}) + "\n")
            file.flush()
            os.fsync(file.fileno())
        self.take(line)

    def take(self, line: _Line) -> None:
        """Know of it."""
        if isinstance(line, Undisturbed):
            self.undisturbed[line.world] = line
        elif isinstance(line, Outcome):
            self.outcomes[line.plan] = line

    @property
    def all_outcomes(self) -> dict[Plan, Outcome]:
        """Those of other machines, too."""
        others = (other.outcomes for other in self.others)
        return {plan: found[plan] for found in (*others, self.outcomes) for plan in found}

    @property
    def num_kills(self) -> int:
        """Of all trainings."""
        return sum(len(outcome.kills) for outcome in self.all_outcomes.values())


def this_head() -> Head:
    """Of this code, these versions, this machine."""
    found = circumstances()
    # Another instruction set may come to other bits.
    machine = f"{found['machine']}, {_processor()}"
    digest = hashlib.sha256(json.dumps(found["versions"]).encode())
    for file in _code():
        digest.update(f"{file.relative_to(ROOT)}\n".encode() + file.read_bytes())
    code = digest.hexdigest()
    digest.update(machine.encode())
    key = digest.hexdigest()
    return Head(code, key, found["date"], found["commit"], machine, found["versions"])


def _code() -> Iterator[Path]:
    for path in (ROOT / name for name in CODE):
        for file in [path] if path.is_file() else sorted(path.rglob("*")):
            if file.is_file() and "__pycache__" not in file.parts and file.name not in _SHOWS:
                yield file


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*: (.*)", info.read_text()) if info.exists() else None
    return found[1].strip() if found else platform.processor()


def open_results(folder: Path, head: Head) -> Results:
    """The file of this head's key, or a new one. Raises TrainerError for a damaged file."""
    folder.mkdir(parents=True, exist_ok=True)
    kept = [read_results(file) for file in sorted(folder.glob("*.jsonl"))]
    found = next((results for results in kept if results.head.key == head.key), None)
    if found is None:
        commit, _, changes = head.commit.partition("+")
        name = f"{head.date[:10]}-{commit[:10] or 'unknown'}{'-changed' if changes else ''}"
        found = Results(folder / f"{name}-{head.key[:6]}.jsonl", head)
        found.add(head)
    found.others = tuple(
        other for other in kept if other is not found and other.head.code == head.code
    )
    return found


def read_results(file: Path) -> Results:
    """All of a file. Raises TrainerError when a line of it is damaged."""
    first, *rest, last = file.read_bytes().split(b"\n") + ([] if file.stat().st_size else [b""])
    head = _parse(file, 1, first)
    if not isinstance(head, Head):
        raise TrainerError(_damaged(file, 1))
    if last:
        raise TrainerError(_damaged(file, len(rest) + 2))
    results = Results(file, head)
    for number, line in enumerate(rest, start=2):
        results.take(_parse(file, number, line))
    return results


def _parse(file: Path, number: int, line: bytes) -> _Line:
    try:
        [(kind, tree)] = json.loads(line).items()
        return TypeAdapter(_KINDS[kind]).validate_json(json.dumps(tree), strict=True)
    except (ValueError, KeyError, AttributeError, ValidationError) as error:
        raise TrainerError(_damaged(file, number)) from error


def _damaged(file: Path, number: int) -> str:
    return (
        f"{file}: line {number} is damaged or cut off: remove it, and its training is done again, "
        "or move the file away to begin anew"
    )
