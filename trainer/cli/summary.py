"""The few lines at the end of training: what came out, where it is, what to do next."""

import shlex
from collections.abc import Iterator, Sequence
from typing import Any

from trainer.cli.tables import counted, print_facts
from trainer.config import RunConfig
from trainer.environment import command_name


def show_summary(
    config: RunConfig, outcome: Any, config_name: str, overrides: Sequence[str]
) -> None:
    """Print it; every command in it works when it is typed as it stands."""
    print()
    print_facts(_facts(config, outcome, config_name, overrides))


def _facts(
    config: RunConfig, outcome: Any, config_name: str, overrides: Sequence[str]
) -> Iterator[tuple[str, str]]:
    summary = outcome.summary
    yield "run", f"{summary['run']}: complete{_already(config, outcome)}"
    yield "steps", _steps(summary)
    for split in ("validation", "test"):
        if summary.get(split):
            yield (
                split,
                ", ".join(f"{name} {_short(value)}" for name, value in summary[split].items()),
            )
    yield "model", summary["model"][0] if summary["model"] else "not exported"
    if summary.get("export_error"):
        yield "export again", f"{command_name()} export {shlex.quote(config.run.dir)}"
    yield "checkpoints", f"{config.run.dir}/checkpoints"
    if config.train.engine == "loop" and not summary["stopped_early"]:
        longer = [f"train.epochs={summary['epochs'] * 2}"]
        yield "train longer", train_command(config_name, overrides, longer)
    yield "measure again", f"{command_name()} evaluate {shlex.quote(config.run.dir)}"
    yield "look inside", f"{command_name()} checkpoints list {shlex.quote(config.run.dir)}"


def _already(config: RunConfig, outcome: Any) -> str:
    asked = config.train.epochs
    if not outcome.was_complete:
        return ""
    is_fewer = asked < outcome.summary["epochs"]
    return " already" + (f"; train.epochs={asked} asks for fewer than it has" if is_fewer else "")


def _steps(summary: dict[str, Any]) -> str:
    early = ", stopped early by a callback" if summary["stopped_early"] else ""
    return f"{summary['steps']} in {counted(summary['epochs'], 'epoch')}{early}"


def _short(value: float | None) -> str:
    return f"{value:.4f}" if value is not None else "none"


def show_script_summary(run_dir: str, summary: dict[str, Any], *, was_complete: bool) -> None:
    """The same of a script's run."""
    already = " already: the same script with the same arguments has ended" if was_complete else ""
    print()
    print_facts(
        [
            ("run", f"{summary['run']}: complete{already}"),
            ("steps", f"{summary['steps']} in {counted(summary['fits'], 'call')} of trainer.fit"),
            ("checkpoints", f"{run_dir}/checkpoints"),
            ("look inside", f"{command_name()} checkpoints list {shlex.quote(run_dir)}"),
        ]
    )


def train_command(config_name: str, overrides: Sequence[str], changes: Sequence[str]) -> str:
    """The command line of the same run with some keys set anew."""
    changed = {change.partition("=")[0] for change in changes}
    kept = [text for text in overrides if text.partition("=")[0] not in changed]
    settings = " ".join(f"--set {shlex.quote(text)}" for text in (*kept, *changes))
    return f"{command_name()} train -c {shlex.quote(config_name)} {settings}"
