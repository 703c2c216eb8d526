"""`trainer debug`."""

from typing import Any

import click

from trainer.cli.options import (
    AS_JSON,
    HELP_NAMES,
    apply_options,
    examples,
    follow_parents,
    json_option,
    run_argument,
    set_option,
)
from trainer.stop import StopRequest


@click.command(
    context_settings=HELP_NAMES,
    epilog=examples(
        "trainer debug runs/local",
        "trainer debug gs://my-bucket/runs/demo --steps 3 --eager --set cluster.device=cpu",
        "trainer debug runs/local --step 1200 --set params.learning_rate=0.0001 \\",
        "    --allow-change params.learning_rate",
    ),
)
@apply_options(
    run_argument,
    click.option(
        "--step", type=click.IntRange(0), metavar="STEP",
        help="Go on from this step's checkpoint, 0 for the beginning; by default from the newest.",
    ),
    click.option(
        "--steps", "num_steps", type=click.IntRange(1), metavar="N",
        help="Stop after so many steps; by default the run's end is the end.",
    ),
    click.option(
        "--eager", "is_eager", is_flag=True,
        help="Run steps line by line, not compiled: breakpoint() and print() work in them.",
    ),
    set_option,
    click.option(
        "--allow-change", multiple=True, metavar="KEY",
        help="Let a changeable key differ from the run's; repeatable.",
    ),
    click.option(
        "--keep", metavar="DIR", callback=follow_parents,
        help="Leave what is written in this new folder; by default it is removed at the end.",
    ),
    json_option,
)  # fmt: skip
def debug(as_json: bool, overrides: tuple[str, ...], **options: Any) -> None:
    """Train a run's next steps here, in the foreground, and leave the run as it is.

    One worker goes on from the newest checkpoint with the configuration that the run was last
    started with, one step a call, to the step that failed: the same records, noise and state. The
    run is only read, may be held by others meanwhile, and may be of several workers.

    Ends with 0 when nothing failed, else as the run's worker would, with a traceback.
    """
    context = click.get_current_context()
    context.meta[AS_JSON] = as_json
    stop = StopRequest()
    stop.install()
    from trainer.debugging import Debugging
    from trainer.debugging import debug as debug_run

    surroundings = {"open_storage": context.obj.open_storage} if context.obj else {}
    sets = (*overrides, *(["log.format=json"] if as_json else []))
    shown = context.find_root().params

    def on_start() -> None:
        shown["debug"] = True  # a traceback is what this is for

    reason = debug_run(
        Debugging(overrides=sets, **options), stop, on_start=on_start, **surroundings
    )
    from trainer.log import get_log

    get_log().info("end", reason=reason)
    if stop.is_set:
        raise click.exceptions.Exit(stop.exit_code)
