"""The short table at the end of training."""

from typing import Any

from rich.console import Console
from rich.table import Table

from trainer.config import RunConfig


def show_summary(config: RunConfig, outcome: Any) -> None:
    """Print what came out, where it is, and what to do next."""
    summary = outcome.summary
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_row("run", f"{summary['run']}: complete" + (" already" if outcome.was_complete else ""))
    for split in ("test", "validation"):
        if summary.get(split):
            values = ", ".join(f"{name} {value:.4f}" for name, value in summary[split].items())
            table.add_row(split, values)
            break
    table.add_row("steps", f"{summary['steps']} in {summary['epochs']} epochs")
    table.add_row("model", summary["model"][0] if summary["model"] else "not exported")
    table.add_row("checkpoints", f"{config.run.dir}/checkpoints")
    longer = summary["epochs"] * 2
    table.add_row("train longer", f"trainer train -c {config.recipe} --set train.epochs={longer}")
    table.add_row("look inside", f"trainer checkpoints list {config.run.dir}")
    # Paths must stay whole when the output goes to a file.
    Console(soft_wrap=True).print(table)
