"""A report as one HTML file: no script, nothing from elsewhere, all text of runs escaped."""

import base64
import math
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from typing import Any

import trainer
from trainer.config import RunConfig
from trainer.durations import in_words
from trainer.errors import ConfigError, ObjectNotFoundError
from trainer.goodput import CAUSES
from trainer.run.facts import RunFacts
from trainer.run.report.chart import COLOURS, Chart
from trainer.run.report.charts import charts_of, num_left_out
from trainer.run.report.time_line import CAUSE_COLOURS, time_line
from trainer.run.run_dir import RunDir

_PICTURE = re.compile(r"pictures/[\w-][\w.-]{0,99}\.(png|svg)", re.ASCII)
_MOST_PICTURE_BYTES = 8 << 20
_MOST_PICTURES = 20
_KINDS = {"png": "image/png", "svg": "image/svg+xml"}
_MOST_ROWS = 100
# Of no use in a page; halves of UTF-16 pairs cannot even be written.
_CONTROLS = re.compile("[\\x00-\\x08\\x0b\\x0c\\x0e-\\x1f\\x7f-\\x9f\\ud800-\\udfff]")


@dataclass(frozen=True)
class Picture:
    """A file that a callback drew, as a `data:` URL."""

    name: str
    url: str


@dataclass(frozen=True)
class Shown:
    """One run as it is shown."""

    facts: RunFacts
    colour: str
    time_line: Chart | None
    pictures: tuple[Picture, ...]
    surroundings: Mapping[str, str]

    @property
    def causes(self) -> list[tuple[str, float, float]]:
        """(cause, seconds, share) of those that there were."""
        wall = self.facts.ledger.wall_seconds
        seconds = self.facts.ledger.seconds
        return [
            (cause, seconds[cause], seconds[cause] / wall) for cause in CAUSES if seconds[cause]
        ]

    @property
    def changes(self) -> list[tuple[Any, Any]]:
        """(Unix time, keys) of changes that were allowed, of a record that may be damaged."""
        told = self.facts.record.get("changes")
        changes = told if isinstance(told, list) else []
        return [(each.get("time"), each.get("keys")) for each in changes if isinstance(each, dict)]

    @property
    def measured(self) -> list[tuple[str, str, float | None]]:
        """(split, metric, value) of the last epoch, and of the test."""
        summary = self.facts.summary
        if summary is not None:
            splits = {name: summary.get(name) for name in ("train", "validation", "test")}
            return [
                (split, str(name), value if isinstance(value, int | float) else None)
                for split, values in splits.items()
                if isinstance(values, dict)
                for name, value in values.items()
            ]
        rows = list(self.facts.curves.epochs.rows())
        return [
            ("validation" if name.startswith("val_") else "train", name.removeprefix("val_"), value)
            for name, value in (rows[-1][2].items() if rows else ())
        ]


def look_at(runs: Sequence[tuple[RunDir, RunFacts]]) -> list[Shown]:
    """What the page has of each run beside common charts. Raises StorageError."""
    names = [facts.name for _, facts in runs]
    return [
        Shown(
            # Folders of the same name are told apart by all of it.
            facts if names.count(facts.name) == 1 else replace(facts, name=facts.url),
            COLOURS[number % len(COLOURS)], time_line(facts, number + 1),
            _pictures(run, facts), _surroundings(facts),
        )
        for number, (run, facts) in enumerate(runs)
    ]  # fmt: skip


def all_charts(shown: Sequence[Shown]) -> list[Chart]:
    """Those that compare, and each run's own."""
    return [
        *charts_of([each.facts for each in shown]),
        *(each.time_line for each in shown if each.time_line is not None),
    ]


def page(shown: Sequence[Shown], *, now: float) -> str:
    """The HTML document; `now` is the Unix time that it tells."""
    environment = _environment()
    facts = [each.facts for each in shown]
    return environment.get_template("page.html").render(
        runs=shown,
        charts=charts_of(facts),
        num_more_metrics=num_left_out(facts),
        differences=differences([each.config for each in facts]),
        title=", ".join(each.name for each in facts),
        now=now,
        version=trainer.__version__,
        most_rows=_MOST_ROWS,
        cause_colours=CAUSE_COLOURS,
        causes=CAUSES,
    )


def check_installed() -> None:
    """ConfigError when a package is missing that only reports need."""
    from importlib.util import find_spec

    if missing := [name for name in ("jinja2", "matplotlib") if find_spec(name) is None]:
        raise ConfigError(
            f"trainer report needs {' and '.join(missing)}: pip install 'trainer-k8s[pictures]'"
        )


def _environment() -> Any:
    from jinja2 import DictLoader, Environment, StrictUndefined

    source = files(__package__).joinpath("page.html").read_text(encoding="utf-8")
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
        loader=DictLoader({"page.html": source}), finalize=_readable,
    )  # fmt: skip
    environment.filters |= {
        "moment": _moment, "duration": _duration, "share": _share, "number": _number,
        "megabytes": lambda size: f"{size / 1e6:,.1f} MB",
    }  # fmt: skip
    return environment


def _readable(value: Any) -> Any:
    """Text without control characters; markup as it is."""
    is_text = isinstance(value, str) and not hasattr(value, "__html__")
    return _CONTROLS.sub("\ufffd", value) if is_text else value


def differences(configs: Sequence[RunConfig | None]) -> list[tuple[str, list[str]]]:
    """(key, value in each run) of what the configurations differ in."""
    trees = [{} if each is None else _flat(each.model_dump(mode="json")) for each in configs]
    keys = dict.fromkeys(key for tree in trees for key in tree)
    rows = [(key, [tree.get(key, "") for tree in trees]) for key in keys]
    return [row for row in rows if len(set(row[1])) > 1 and not row[0].startswith("run.")]


def _flat(tree: Any, prefix: str = "") -> dict[str, str]:
    if isinstance(tree, dict) and tree:
        inner = (
            _flat(value, f"{prefix}.{name}" if prefix else name) for name, value in tree.items()
        )
        return {key: value for each in inner for key, value in each.items()}
    return {prefix: str(tree)}


def _pictures(run: RunDir, facts: RunFacts) -> tuple[Picture, ...]:
    found = []
    for path in facts.pictures[:_MOST_PICTURES]:
        match = _PICTURE.fullmatch(path)
        try:
            if match is None or run.storage.stat(path).size > _MOST_PICTURE_BYTES:
                continue
            data = base64.b64encode(run.storage.read(path)).decode()
        except ObjectNotFoundError:  # drawn anew just now
            continue
        name = path.partition("/")[2].rpartition(".")[0].replace("_", " ")
        found.append(Picture(name, f"data:{_KINDS[match[1]]};base64,{data}"))
    return tuple(found)


def _surroundings(facts: RunFacts) -> dict[str, str]:
    """Versions and machine of the last life that told them."""
    for life in reversed(facts.lives):
        if any(life.surroundings.values()):
            return life.surroundings
    told = (facts.summary or {}).get("versions", {})
    return {str(k): str(v) for k, v in told.items()} if isinstance(told, dict) else {}


def _moment(seconds: Any) -> str:
    if not isinstance(seconds, int | float):
        return "-"
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(seconds))
    except (ValueError, OverflowError, OSError):
        return "-"


def _duration(seconds: float | None) -> str:
    return "-" if seconds is None or not math.isfinite(seconds) else in_words(seconds)


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else f"{value:.5g}"
