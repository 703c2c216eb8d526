"""Writes the parts of docs/ and of the chart that the source already says; `--check` compares.

configuration.md and metrics.md and cli.md are written whole, the table of exit codes between two
marks in failures.md; the chart's are in scripts/chart_schema.py, faults.md in scripts/faults.py,
the table of performance.md in scripts/performance.py, the last campaign of chaos.md in
scripts/chaos.py, licences.md in scripts/licences.py;
campaign.md, which `make campaign` writes, is written anew from the results that it names.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from scripts import chaos, chart_schema, faults, licences, performance
from tests.campaign.page import rewritten
from trainer import errors
from trainer.cli.root import trainer_command
from trainer.config.models import RunConfig
from trainer.config.schema import Key, keys
from trainer.metrics import describe
from trainer.recipes.catalog import find_recipe, list_recipes

DOCS = Path(__file__).parents[1] / "docs"
NOTE = "<!-- Written by `make docs` from the source: change it there. -->\n"
BEGIN, END = "<!-- exit codes: begin (make docs) -->\n", "<!-- exit codes: end -->\n"
CONFIGURATION = """\
A run is told everything by one YAML file (`-c FILE`, or the name of a recipe that has one) and by
`--set KEY=VALUE`. `trainer config show` prints it resolved, `trainer config check` names what is
wrong, `trainer config schema` is for editors.

Kinds: a run that goes on may differ in *free* keys; in a *changeable* one with
`--allow-change KEY`, which is recorded in the run; in an *identity* key never, because the result
would be another one.
"""
METRICS = """\
Served at `/metrics` (keys `metrics.*`). Counters start at 0 in every agent; a gauge is absent
until its value is known; `metrics.labels` are added to every series. Causes and phases:
[goodput.md](goodput.md). How busy a GPU is, NVIDIA's dcgm-exporter tells for each pod
(`DCGM_FI_DEV_GPU_UTIL`).
"""
ENDINGS = {
    0: ("the run is complete, also when it was found complete", "nothing"),
    1: (
        "an unexpected error, or storage that refused",
        "read the message, try again",
    ),
    2: ("usage or configuration", "mend the key, option or variable that is named"),
    3: ("data", "`trainer data verify URL` names every problem; prepare again"),
    4: (
        "the loss is no longer finite",
        "a lower learning rate; checkpoints are intact",
    ),
    5: ("checkpoint refused: damaged, or of another run", "`trainer checkpoints verify RUN_DIR`"),
    6: ("the run is held by another live job", "wait for it, or use another `run.dir`"),
    7: ("restarts without a new step", "read why the last ones ended"),
    75: ("`trainer worker` stopped and saved, as it was told", "start again to go on"),
    76: ("the group did not come together in time", "see which worker is missing"),
    130: ("Ctrl-C: saved", "the same command goes on"),
    141: ("whoever read the output has gone", "nothing"),
    143: ("SIGTERM: saved", "the same command goes on"),
}


def configuration() -> str:
    """docs/configuration.md."""
    parts = ["# Configuration\n", NOTE, CONFIGURATION, _key_table(list(keys(RunConfig)))]
    for entry in list_recipes():
        if entry.is_packaged:
            parts.append(f"## Parameters of recipe {entry.name}\n\n{entry.about}.\n")
            parts.append(_key_table(list(keys(find_recipe(entry.name).params, "params."))))
    return "\n".join(parts)


def _key_table(rows: list[Key]) -> str:
    lines = ["| key | type | default | kind | |", "|---|---|---|---|---|"]
    for key in rows:
        cells = (f"`{key.name}`", key.type, _default(key), key.kind or "", key.help)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def _default(key: Key) -> str:
    if key.is_required:
        return "required"
    if key.type == "section":
        return ""
    return f"`{json.dumps(key.default)}`"


def metrics() -> str:
    """docs/metrics.md."""
    lines = [
        "# Metrics\n",
        NOTE,
        METRICS,
        "| name | type | labels | |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| `{m.name}` | {m.kind} | {', '.join(f'`{label}`' for label in m.labels)} | {m.help} |"
        for m in describe()
    ]
    return "\n".join(lines) + "\n"


def cli() -> str:
    """docs/cli.md."""
    parts = ["# Commands\n", NOTE]
    for path, text in command_help():
        parts.append(f"## {path}\n\n```\n{text}\n```\n")
    return "\n".join(parts)


def command_help() -> Iterator[tuple[str, str]]:
    """(path, help) of every command, as a terminal of 100 columns shows it."""
    yield from _help_of(trainer_command, None)


def _help_of(
    command: click.Command, parent: click.Context | None, name: str = "trainer"
) -> Iterator[tuple[str, str]]:
    context = click.Context(
        command, parent=parent, info_name=name, terminal_width=100,
        **({**command.context_settings, "max_content_width": 100}),
    )  # fmt: skip
    text = command.get_help(context)
    yield context.command_path, "\n".join(line.rstrip() for line in text.splitlines())
    if isinstance(command, click.Group):
        for below in command.list_commands(context):
            found = command.get_command(context, below)
            if found is not None:
                yield from _help_of(found, context, below)


def exit_codes() -> str:
    """The table in docs/failures.md."""
    names: dict[int, list[str]] = {}
    for error in _all_errors(errors.TrainerError):
        names.setdefault(error.exit_code, []).append(error.__name__)
    missing = names.keys() - ENDINGS
    if missing:
        raise SystemExit(f"scripts/generate_docs.py: ENDINGS lacks the exit codes {missing}")
    lines = ["| code | meaning | errors | what to do |", "|---|---|---|---|"]
    for code, (meaning, remedy) in ENDINGS.items():
        raised = ", ".join(f"`{name}`" for name in names.get(code, []))
        lines.append(f"| {code} | {meaning} | {raised} | {remedy} |")
    return "\n".join(lines) + "\n"


def _all_errors(base: type[errors.TrainerError]) -> Iterator[type[errors.TrainerError]]:
    if base.__module__ == errors.__name__:
        yield base
        for below in base.__subclasses__():
            yield from _all_errors(below)


def failures(text: str) -> str:
    """docs/failures.md with its table written anew."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}{exit_codes()}{END}{after}"


def documents() -> dict[Path, str]:
    """Every generated file and what it should hold."""
    return {
        DOCS / "campaign.md": rewritten((DOCS / "campaign.md").read_text()),
        DOCS / "chaos.md": chaos.page((DOCS / "chaos.md").read_text()),
        DOCS / "cli.md": cli(),
        DOCS / "configuration.md": configuration(),
        DOCS / "faults.md": faults.page(),
        DOCS / "licences.md": licences.page(),
        DOCS / "metrics.md": metrics(),
        DOCS / "performance.md": performance.page((DOCS / "performance.md").read_text()),
        DOCS / "failures.md": failures((DOCS / "failures.md").read_text()),
        **chart_schema.documents(),
    }


def main() -> int:
    """Write, or with --check name what is out of date and return 1."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="only name files out of date")
    is_check = parser.parse_args().check
    stale = [
        path for path, text in documents().items() if not path.is_file() or path.read_text() != text
    ]
    for path in stale:
        if is_check:
            print(f"{path.relative_to(DOCS.parent)} is out of date: make docs", file=sys.stderr)
        else:
            path.write_text(documents()[path])
    return int(is_check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
