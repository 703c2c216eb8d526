"""`trainer runs`."""

import click

from trainer.cli.options import HELP_NAMES, examples, run_argument
from trainer.errors import ConfigError


@click.group(
    context_settings=HELP_NAMES, epilog=examples("trainer runs delete gs://my-bucket/runs/demo")
)
def runs() -> None:
    """Delete runs."""


@runs.command(
    epilog=examples(
        "trainer runs delete runs/local",
        "trainer runs delete gs://my-bucket/runs/demo --name demo   # asks nothing",
    )
)
@run_argument
@click.option("--name", help="The run's name, as the question asks for it.")
def delete(run_dir: str, name: str | None) -> None:
    """Delete a run: its checkpoints, its model, its summary.

    The run's name, the last part of RUN_DIR, has to be typed. A run that another job holds is not
    deleted (exit code 6), and files that no run writes stay where they are.
    """
    from trainer.run_dir import RunDir
    from trainer.run_removal import delete_run

    run = RunDir(run_dir)
    run.check_exists()
    expected = run.url.rstrip("/").rpartition("/")[2]
    typed = name or click.prompt(f"Type '{expected}' to delete {run.url} for ever")
    if typed != expected:
        raise ConfigError(f"'{typed}' is not the run's name, '{expected}': nothing was deleted")
    removed, left = delete_run(run)
    click.echo(f"deleted {run.url}: {removed} objects")
    if left:
        more = f" and {len(left) - 1} more" if len(left) > 1 else ""
        click.echo(f"left there, because no run writes it: {left[0]}{more}")
