"""`trainer checkpoints`."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from trainer.cli.options import HELP_NAMES, examples, json_option, print_json, run_argument
from trainer.errors import CheckpointError

if TYPE_CHECKING:
    from trainer.checkpoint.inventory import Listed


@click.group(
    context_settings=HELP_NAMES,
    epilog=examples(
        "trainer checkpoints list runs/local",
        "trainer checkpoints verify runs/local",
        "trainer checkpoints inspect runs/local best",
    ),
)
def checkpoints() -> None:
    """List, verify and look into a run's checkpoints."""


@checkpoints.command(
    name="list",
    epilog=examples(
        "trainer checkpoints list runs/local",
        "trainer checkpoints list runs/local --no-verify",
        "trainer checkpoints list runs/local --json",
    ),
)
@run_argument
@click.option("--verify/--no-verify", default=True, help="Read and check every byte (default).")
@json_option
def list_(run_dir: str, verify: bool, as_json: bool) -> None:
    """All checkpoints of a run, in the order in which they were made.

    sha256 is over the model's variables (seeds included) and the optimizer's: two runs with
    the same one hold the same state, bit for bit.
    """
    listed = _take_inventory(run_dir, verify=verify)
    if as_json:
        print_json([_as_json(entry) for entry in listed])
        return
    if not listed:
        click.echo(f"no checkpoints in {run_dir} yet")
        return
    from trainer.cli.tables import print_table

    print_table((">STEP", "STATE", ">SIZE", "MADE", "SHA256", "METRICS"), map(_row, listed))


def _take_inventory(run_dir: str, *, verify: bool) -> "list[Listed]":
    from trainer.checkpoint.inventory import take_inventory
    from trainer.run.run_dir import RunDir

    run = RunDir(run_dir)
    run.check_exists()
    return take_inventory(run.checkpoints, verify=verify)


def _as_json(entry: "Listed") -> dict[str, Any]:
    facts = asdict(entry)
    facts["bytes"] = facts.pop("num_bytes")
    return facts


def _row(entry: "Listed") -> tuple[str, ...]:
    from trainer.cli.tables import local_time, megabytes

    state = {True: "verified", False: "damaged", None: "committed"}[entry.verified]
    made = "" if entry.created is None else local_time(entry.created)
    metrics = " ".join(f"{name} {value:.4f}" for name, value in entry.metrics.items())
    return (
        f"{entry.step}" + (f" (fence {entry.fence})" if entry.fence else ""),
        state if entry.committed else "not committed",
        megabytes(entry.num_bytes), made, (entry.sha256 or "")[:12], metrics,
    )  # fmt: skip


@checkpoints.command(
    epilog=examples("trainer checkpoints verify runs/local"),
)
@run_argument
@json_option
def verify(run_dir: str, as_json: bool) -> None:
    """Read every byte of every committed checkpoint; exit code 5 if one is damaged."""
    listed = _take_inventory(run_dir, verify=True)
    committed = [entry for entry in listed if entry.committed]
    problems = [entry.problem for entry in committed if entry.problem]
    if as_json:
        print_json({"ok": not problems, "verified": len(committed), "problems": problems})
    else:
        for entry in listed:
            click.echo(f"step {entry.step}: {entry.problem or 'verified'}")
    if problems:
        if not as_json:
            click.echo(f"trainer: {len(problems)} of {len(committed)} are damaged", err=True)
        raise click.exceptions.Exit(CheckpointError.exit_code)


@checkpoints.command(
    epilog=examples(
        "trainer checkpoints inspect runs/local",
        "trainer checkpoints inspect runs/local 790",
        "trainer checkpoints inspect runs/local best --json",
    )
)
@run_argument
@click.argument("which", metavar="[STEP|last|best]", default="last")
@json_option
def inspect(run_dir: str, which: str, as_json: bool) -> None:
    """Position, metrics and arrays of one checkpoint, which is verified first."""
    from trainer.checkpoint.inventory import describe
    from trainer.run.run_dir import RunDir

    run = RunDir(run_dir)
    run.check_exists()
    facts = describe(run.checkpoint(which).manifest)
    if as_json:
        print_json(facts)
        return
    from trainer.cli.tables import local_time, megabytes, print_facts, print_table

    arrays = facts.pop("arrays")
    facts["created"], facts["bytes"] = local_time(facts["created"]), megabytes(facts["bytes"])
    print_facts((name, _text(value)) for name, value in facts.items())
    print_table(
        ("ARRAY", "SHAPE", "DTYPE"),
        [(a["name"], "x".join(map(str, a["shape"])) or "scalar", a["dtype"]) for a in arrays],
    )


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_text(inner)}" for name, inner in value.items()) or "none"
    return f"{value:.6g}" if isinstance(value, float) else str(value)
