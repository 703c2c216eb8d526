"""`trainer doctor`."""

from dataclasses import asdict
from typing import Any

import click

from trainer.cli.options import (
    HELP_NAMES,
    apply_options,
    examples,
    json_option,
    optional_config_option,
    print_json,
    set_option,
)


@click.command(
    # What follows the script is its own.
    context_settings={**HELP_NAMES, "allow_interspersed_args": False},
    epilog=examples(
        "trainer doctor -c run.yaml",
        "trainer doctor -c fashion_mnist --set run.dir=gs://my-bucket/runs/demo",
        "trainer doctor --set run.dir=gs://my-bucket/runs/mine train.py --epochs 5",
    ),
)
@apply_options(optional_config_option, set_option, json_option)
@click.argument("script", nargs=-1, type=click.UNPROCESSED, metavar="[SCRIPT [ARGS]...]")
def doctor(as_json: bool, **options: Any) -> None:
    """Find out whether a run could start, and train nothing.

    Of the recipe of a configuration, or of a script as `trainer run` takes it; what data that
    gives to trainer.fit, only the script knows.

    Identity, rights in each bucket, clocks, the data set, the run and its lease, the metrics port.
    A right is tried out by an object that is created and deleted again. Ends with 0 when all is
    well, and otherwise with the code that `trainer train` would end with.
    """
    from trainer.cli.start import Request
    from trainer.cli.tables import print_table
    from trainer.doctor import examine
    from trainer.launch import Launch

    request = Request(**options, allow_change=(), dry_run=True, as_json=as_json)
    findings = list(examine(Launch(*request.load(), script=request.as_script())))
    if as_json:
        print_json([{"ok": not found.exit_code, **asdict(found)} for found in findings])
    else:
        print_table(
            ("CHECK", "RESULT", "DETAIL"),
            [
                (found.check, f"FAILED ({found.exit_code})" if found.exit_code else "ok",
                 found.detail)
                for found in findings
            ],
        )  # fmt: skip
    code = next((found.exit_code for found in findings if found.exit_code), 0)
    raise click.exceptions.Exit(code)
