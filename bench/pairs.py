"""Paired, interleaved runs: this machine's speed drifts, the ratio of neighbours does not.

Contestants take turns, A B A B …, in an order that reverses every round. A ratio is the median
over the rounds' ratios. The noise floor is how far a round of A against A strays from 1: half
of those rounds stray less.
"""

import argparse
import json
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any, Literal

from scripts.results import commit

Turn = Callable[[], float]


@dataclass(frozen=True)
class Result:
    """One measure. `details` are for people: what was measured, in which units."""

    name: str
    ratio: float
    noise_floor: float
    aim: float
    better: Literal["higher", "lower"]
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def meets_aim(self) -> bool:
        """Whether the ratio is on the right side of the aim."""
        return self.ratio >= self.aim if self.better == "higher" else self.ratio <= self.aim

    def brief(self) -> dict[str, Any]:
        """What `--json` writes."""
        return {
            "name": self.name, "ratio": round(self.ratio, 4),
            "noise_floor": round(self.noise_floor, 4), "aim": self.aim,
            "meets_aim": self.meets_aim,
        }  # fmt: skip


def take_turns(
    contestants: Mapping[str, Turn], *, rounds: int, warm_ups: int = 0
) -> dict[str, list[float]]:
    """What each contestant's turns returned, by name and round; warm-ups are left out."""
    names = list(contestants)
    values: dict[str, list[float]] = {name: [] for name in names}
    for number in range(warm_ups + rounds):
        for name in names if number % 2 == 0 else reversed(names):
            value = contestants[name]()
            if number >= warm_ups:
                values[name].append(value)
    return values


def median_ratio(above: Sequence[float], below: Sequence[float]) -> float:
    """Median of the rounds' ratios."""
    return median(a / b for a, b in zip(above, below, strict=True))


def noise_floor(first: Sequence[float], second: Sequence[float]) -> float:
    """Median distance from 1 of the ratios of two contestants that do the same."""
    return median(abs(a / b - 1) for a, b in zip(first, second, strict=True))


def timed(work: Callable[[], Any]) -> float:
    """Seconds that `work` takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def milliseconds(seconds: Sequence[float]) -> float:
    """The median, in milliseconds, for the details."""
    return round(1000 * median(seconds), 3)


def machine() -> dict[str, Any]:
    """What a reader needs to judge the numbers."""
    packages = ("tensorflow-cpu", "tensorflow", "keras", "numpy", "safetensors")
    return {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "commit": commit(),
        "cpu": _cpu_model(),
        "cores": _num_cores(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": {name: found for name in packages if (found := _version(name))},
    }


def run_alone(measures: Mapping[str, Callable[[], list[Result]]], *, about: str) -> None:
    """The command line of one script: `--only NAME`, `--json FILE`, a table on stdout."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--only", choices=sorted(measures), help="run one measure")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results, too")
    # With details and machine, for the table of all scripts.
    parser.add_argument("--full-json", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    chosen = [options.only] if options.only else list(dict.fromkeys(measures))
    results = [result for work in dict.fromkeys(measures[n] for n in chosen) for result in work()]
    if options.only:
        results = [result for result in results if result.name == options.only]
    print(describe(machine()))
    print(table(results))
    write_json(options.json, [result.brief() for result in results])
    write_json(options.full_json, [asdict(result) for result in results])


def write_json(file: Path | None, tree: Any) -> None:
    """Write `tree`, unless no file was asked for."""
    if file is not None:
        file.write_text(json.dumps(tree, indent=1) + "\n", encoding="utf-8")


def describe(found: Mapping[str, Any]) -> str:
    """The machine in one line."""
    versions = ", ".join(f"{name} {number}" for name, number in found["versions"].items())
    commit = f", commit {found['commit']}" if found.get("commit") else ""
    return (
        f"{found['date']}{commit}; {found['cpu']}, {found['cores']} cores, {found['system']}; "
        f"Python {found['python']}, {versions}"
    )


def table(results: Sequence[Result]) -> str:
    """A markdown table that is also readable as it is; misses stand in it like the rest."""
    rows = [("measure", "ratio", "A/A noise", "aim", "result", "details")]
    rows += [
        (
            result.name, f"{result.ratio:.4g}", f"{result.noise_floor:.2g}",
            f"{'≥' if result.better == 'higher' else '≤'} {result.aim:g}",
            "met" if result.meets_aim else "MISSED",
            "; ".join(f"{key} {value}" for key, value in result.details.items()),
        )
        for result in results
    ]  # fmt: skip
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
    lines = ["| " + " | ".join([*map(str.ljust, row, widths), row[-1]]) + " |" for row in rows]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|---|")
    return "\n".join(lines)


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or "unknown"
    return next((line.split(": ", 1)[1] for line in lines if line.startswith("model name")), "")


def _num_cores() -> int:
    import os

    return os.cpu_count() or 1


def _version(package: str) -> str | None:
    try:
        return version(package)
    except ModuleNotFoundError:
        return None
