"""The table in docs/performance.md: what was measured last, in the order of bench/README.md."""

import re
from fnmatch import fnmatchcase
from pathlib import Path

from bench.kept import read
from bench.pairs import Result, describe

ROOT = Path(__file__).parents[1]
BEGIN, END = "<!-- measures: begin (make docs) -->\n", "<!-- measures: end -->\n"
_HEAD = (
    "| measure | compares | ratio | noise | aim | | figures | where |\n"
    "|---|---|---|---|---|---|---|---|"
)


def page(text: str) -> str:
    """docs/performance.md with its table written anew."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}{table()}{END}{after}"


def table() -> str:
    """All measures, and where they were taken: the sittings, the newest first."""
    sittings = read(ROOT / "bench" / "results" / "results.json")
    compared = _compared((ROOT / "bench" / "README.md").read_text(encoding="utf-8"))
    rows = [
        (_place(result.name, compared), result, number)
        for number, (_, results) in enumerate(sittings, 1)
        for result in results
    ]
    rows.sort(key=lambda row: (row[0], row[1].name))
    lines = [_row(result, compared[place][1], number) for place, result, number in rows]
    where = [f"{number}. {describe(machine)}" for number, (machine, _) in enumerate(sittings, 1)]
    return "\n".join([_HEAD, *lines, "", *where]) + "\n"


def _compared(text: str) -> list[tuple[str, str]]:
    """(pattern of names, what is compared) of the benchmarks' table."""
    rows = re.findall(r"^\| (`[^|]+`) \| ([^|]+) \| [^|]+ \|$", text, re.MULTILINE)
    return [(name, what) for names, what in rows for name in re.findall(r"`(.*?)`", names)]


def _place(name: str, compared: list[tuple[str, str]]) -> int:
    return next(i for i, (pattern, _) in enumerate(compared) if fnmatchcase(name, pattern))


def _row(result: Result, compares: str, number: int) -> str:
    sign = "≥" if result.better == "higher" else "≤"
    figures = "; ".join(f"{name} {value}" for name, value in result.details.items())
    return (
        f"| `{result.name}` | {compares} | {result.ratio:.4g} | {result.noise_floor:.2g} | "
        f"{sign} {result.aim:g} | {'met' if result.meets_aim else '**missed**'} | {figures} | "
        f"{number} |"
    )
