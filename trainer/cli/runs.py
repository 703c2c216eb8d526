"""`trainer runs`."""

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from trainer.cli.options import HELP_NAMES, examples, json_option, print_json, run_argument
from trainer.cli.run_status import list_, status
from trainer.cli.run_watch import watch
from trainer.cli.tables import local_time
from trainer.errors import ConfigError

if TYPE_CHECKING:
    from trainer.run.logs import KeptLog


@click.group(
    context_settings=HELP_NAMES,
    epilog=examples(
        "trainer runs list gs://my-bucket/runs",
        "trainer runs status gs://my-bucket/runs/demo",
        "trainer runs logs gs://my-bucket/runs/demo --worker 1",
        "trainer runs delete gs://my-bucket/runs/demo",
    ),
)
def runs() -> None:
    """See how runs stand and what their workers said last, or delete them."""


for _command in (list_, status, watch):
    runs.add_command(_command)


@runs.command(
    epilog=examples(
        "trainer runs logs runs/local",
        "trainer runs logs gs://my-bucket/runs/demo --worker 1 --generation 3",
        "trainer runs logs gs://my-bucket/runs/demo --list",
    ),
)
@run_argument
@click.option("--worker", type=click.IntRange(0), metavar="N", help="Which worker (default: 0).")
@click.option(
    "--generation", type=click.IntRange(0), metavar="N",
    help="Which generation (default: that worker's last).",
)  # fmt: skip
@click.option(
    "--list",
    "as_list",
    is_flag=True,
    help="List what is kept, of these or of all.",
)
@json_option
def logs(
    run_dir: str, worker: int | None, generation: int | None, as_list: bool, as_json: bool
) -> None:
    """Print what a worker said last, whether or not its pod is still there.

    Of each generation the last 1 MB is kept: warnings, the reason of the end, and the stacks of a
    worker that hung; where a pod is killed from outside, its last minute may be missing. Values of
    environment variables that are named like secrets (KEY, TOKEN, PASSWORD …) and have 8 characters
    or more are not in it. With --json, the list is JSON; a log is as it was printed.
    """
    from trainer.run.logs import kept_logs
    from trainer.run.run_dir import RunDir

    run = RunDir(run_dir)
    run.check_exists()
    if worker is None and not as_list:
        worker = 0
    chosen = [
        log for log in kept_logs(run.storage)
        if worker in (None, log.worker) and generation in (None, log.generation)
    ]  # fmt: skip
    if as_list:
        _print_logs(run.url, chosen, as_json=as_json)
        return
    if not chosen:
        wanted = f"worker {worker}" + ("" if generation is None else f" in generation {generation}")
        raise ConfigError(
            f"no log of {wanted} in {run.url}: see trainer runs logs {run_dir} --list"
        )
    click.echo(run.storage.read(chosen[-1].path).decode(errors="replace"), nl=False)


def _print_logs(url: str, kept: "list[KeptLog]", *, as_json: bool) -> None:
    from trainer.cli.tables import print_table

    if as_json:
        print_json([asdict(log) for log in kept])
    elif kept:
        print_table(
            (">GENERATION", ">WORKER", ">BYTES", "WRITTEN"),
            [
                (f"{log.generation}", f"{log.worker}", f"{log.bytes:,}", local_time(log.updated))
                for log in kept
            ],
        )
    else:
        click.echo(f"no such logs are kept in {url}")


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
    from trainer.run.removal import delete_run
    from trainer.run.run_dir import RunDir

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
