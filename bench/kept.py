"""What was measured last: for each measure its newest result, and on which machine.

A list of sittings; what is measured again leaves the sitting in which it stood. `make docs` writes
docs/performance.md of it.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.pairs import Result, write_json

Sitting = tuple[dict[str, Any], list[Result]]


def keep(folder: Path, machine: dict[str, Any], results: Sequence[Result]) -> None:
    """Put `results` into the folder, in place of older ones of the same names."""
    folder.mkdir(exist_ok=True)
    file = folder / "results.json"
    sittings = _merged(read(file), machine, results)
    write_json(
        file, [{"machine": m, "results": [asdict(r) for r in found]} for m, found in sittings]
    )


def read(file: Path) -> list[Sitting]:
    """The sittings that were kept, the newest first."""
    if not file.exists():
        return []
    tree = json.loads(file.read_text(encoding="utf-8"))
    return [(s["machine"], [Result(**fields) for fields in s["results"]]) for s in tree]


def _merged(
    sittings: Sequence[Sitting], machine: dict[str, Any], results: Sequence[Result]
) -> list[Sitting]:
    """The new sitting first; one of the same machine, day and versions takes it in."""
    names = {result.name for result in results}
    older = [(m, [r for r in found if r.name not in names]) for m, found in sittings]
    same = [r for m, found in older if m == machine for r in found]
    rest = [(m, found) for m, found in older if m != machine and found]
    return [(machine, [*results, *same]), *rest]
