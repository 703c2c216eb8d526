"""`trainer doctor`."""

from dataclasses import asdict

import click

from trainer.cli.options import (
    HELP_NAMES,
    apply_options,
    config_option,
    examples,
    json_option,
    print_json,
    set_option,
)


@click.command(
    context_settings=HELP_NAMES,
    epilog=examples(
        "trainer doctor -c run.yaml",
        "trainer doctor -c fashion_mnist --set run.dir=gs://my-bucket/runs/demo",
    ),
)
@apply_options(config_option, set_option, json_option)
def doctor(config_name: str, overrides: tuple[str, ...], as_json: bool) -> None:
    """Find out whether a run could start, and train nothing.

    Identity, rights in each bucket, clocks, the data set, the run and its lease, the metrics port.
    A right is tried out by an object that is created and deleted again. Ends with 0 when all is
    well, and otherwise with the code that `trainer train` would end with.
    """
    from trainer.cli.tables import print_table
    from trainer.doctor import examine
    from trainer.launch import Launch
    from trainer.recipes.catalog import load_run

    findings = list(examine(Launch(*load_run(config_name, overrides))))
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
