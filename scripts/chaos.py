"""Runs `trainer chaos` on three workers; keeps the result in docs/results/DATE-chaos.json.

With arguments it is just `trainer chaos`, and nothing is kept. The exit code is its own.
`make docs` writes what was kept last into docs/chaos.md.
"""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from scripts.results import RESULTS, circumstances, keep
from trainer.chaos.result import MOMENTS
from trainer.cli.chaos import facts, show, span
from trainer.log import configure_logging, get_log

BEGIN, END = "<!-- campaign: begin (make docs) -->\n", "<!-- campaign: end -->\n"
TRAINER = Path(sys.executable).with_name("trainer")
TRIAL = (
    "-c", "fashion_mnist", "--set", "checkpoint.every_steps=40", "--workers", "3", "--kills", "100",
    "--set", "data.batch_size=96", "--set", "data.streams=12", "--set", "train.epochs=60",
)  # fmt: skip


def main(arguments: list[str], folder: Path = RESULTS, trainer: Path = TRAINER) -> int:
    """Run it; its exit code."""
    command = [str(trainer), "chaos", *TRIAL]
    if arguments:
        return subprocess.run([*command, *arguments], check=False).returncode
    found = circumstances()
    configure_logging(as_json=False)
    with subprocess.Popen([*command, "--json"], stdout=subprocess.PIPE, text=True) as process:
        # Ctrl-C reaches it by the terminal; whoever ends this ends it, too.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, lambda *_: process.terminate())
        assert process.stdout is not None
        for line in process.stdout:
            event = json.loads(line)
            if event["event"] == "chaos":
                show(event)
                keep(found | event, "-chaos", folder)
            else:
                _tell(event)
    return process.returncode


def _tell(event: dict[str, Any]) -> None:
    """One line of the trainer's, as a terminal has it."""
    text, level = event.pop("event"), event.pop("level")
    del event["timestamp"]
    getattr(get_log(), level)(text, **event)


def page(text: str, folder: Path = RESULTS) -> str:
    """docs/chaos.md with the last campaign written anew."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    files = sorted(folder.glob("*-chaos.json"))
    lines = _campaign(json.loads(files[-1].read_text())) if files else ["None was kept yet."]
    return "\n".join([f"{before}{BEGIN}", *lines, f"{END}{after}"])


def _campaign(found: dict[str, Any]) -> Iterator[str]:
    yield f"{found['date'][:10]}, commit {found['commit']}; {found['machine']}; " + ", ".join(
        f"{name} {version}" for name, version in found["versions"].items()
    )
    yield "\n| fault | count | recovered | " + " | ".join(MOMENTS).replace("_", " ") + " |"
    yield "|---|" + "---:|" * (2 + len(MOMENTS))
    for kind, row in found["recovery"].items():
        spans = " | ".join(span(row[moment]) for moment in MOMENTS)
        yield f"| {kind} | {row['count']} | {row['recovered']} | {spans} |"
    yield "\nSeconds after the signal: p50 / p95 / worst.\n\n| | |\n|---|---|"
    for name, value in facts(found):
        yield f"| {name} | {value} |"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
