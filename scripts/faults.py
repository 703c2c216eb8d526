"""Writes docs/faults.md: each fault of tests/faults.yaml, its tests, and when each passed last.

Tests are found by their names in the sources, and their passes in docs/results/.
"""

import json
import re
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import yaml

from scripts.results import RESULTS, ROOT

# Those of `make faults`, `make e2e` and `make image-test`. Other kept results are of some of a
# test's parameters alone, as those that are marked `long`, or of another backend.
KEPT = ("faults", "e2e", "image")
# Also one that a module has from another one: `test_f11_in_the_store = …`.
TEST = re.compile(r"^(?:def )?(test_f(\d\d)_\w+)(?:\(| =)", re.MULTILINE)
HEAD = """\
# Faults

<!-- Written by `make docs` from tests/faults.yaml, the names of tests and docs/results/. -->

What may go wrong, what has to come of it, and how the tests make it go wrong. Runs have *the same
result* when weights and variables of the optimizer have the same sha256. A test's last pass is the
start (UTC) of the last `make faults`, `make e2e` or `make image-test` in which it passed with all
of its parameters; `-`: [docs/results](results) has none.
"""


@dataclass(frozen=True)
class Fault:
    """One fault, what has to come of it, and how tests make it."""

    kind: str
    id: str
    what: str
    made: str


@dataclass(frozen=True)
class FaultTest:
    """One test of a fault; `file` is below the repository."""

    fault: str
    name: str
    file: str

    @property
    def full_name(self) -> str:
        """As kept results have it."""
        return f"{self.file.removesuffix('.py').replace('/', '.')}.{self.name}"


def read_faults() -> list[Fault]:
    """All of tests/faults.yaml, in its order."""
    table = yaml.safe_load((ROOT / "tests" / "faults.yaml").read_text())
    return [
        Fault(kind, name, **texts)
        for kind, faults in table.items()
        for name, texts in faults.items()
    ]


def find_tests() -> list[FaultTest]:
    """Every test that is named after a fault, by file."""
    return [
        FaultTest(f"F{number}", name, file.relative_to(ROOT).as_posix())
        for folder in ("docker", "tests")
        for file in sorted((ROOT / folder).rglob("test_*.py"))
        for name, number in TEST.findall(file.read_text())
    ]


def last_passes(folder: Path = RESULTS) -> dict[str, str]:
    """The date of the last result in which all parameters of a test passed, by its full name."""
    files = [file for name in KEPT for file in folder.glob(f"*-{name}.json")]
    passes: dict[str, str] = {}
    for result in sorted((json.loads(file.read_text()) for file in files), key=lambda r: r["date"]):
        outcomes: dict[str, set[str]] = {}
        for test in result["tests"]:
            outcomes.setdefault(test["test"].partition("[")[0], set()).add(test["outcome"])
        passes |= {name: result["date"] for name, found in outcomes.items() if found == {"passed"}}
    return passes


def page() -> str:
    """docs/faults.md."""
    tests, passes = find_tests(), last_passes()
    parts = [HEAD]
    for kind, faults in groupby(read_faults(), key=lambda fault: fault.kind):
        parts.append(f"## {kind}\n")
        parts += [
            _section(fault, [t for t in tests if t.fault == fault.id], passes) for fault in faults
        ]
    return "\n".join(parts)


def _section(fault: Fault, tests: list[FaultTest], passes: dict[str, str]) -> str:
    rows = [
        f"| `{test.name}` | [{test.file}](../{test.file}) | {_shown(passes.get(test.full_name))} |"
        for test in tests
    ]
    table = "\n".join(["| test | file | last pass |", "|---|---|---|", *rows])
    return f"### {fault.id}\n\n{fault.what}\n\n*How:* {fault.made}\n\n{table}\n"


def _shown(date: str | None) -> str:
    return date[:16].replace("T", " ") if date else "-"
