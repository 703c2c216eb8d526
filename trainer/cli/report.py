"""`trainer report`."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from trainer.cli.options import examples, follow_parents
from trainer.errors import ConfigError


@click.command(
    epilog=examples(
        "trainer report runs/local --out report.html",
        "trainer report gs://my-bucket/runs/a gs://my-bucket/runs/b --out compared.html",
        "trainer report runs/local --out report.html --png charts",
    )
)
@click.argument(
    "run_dirs", metavar="RUN_DIR...", nargs=-1, required=True,
    callback=lambda ctx, param, values: tuple(follow_parents(ctx, param, each) for each in values),
)  # fmt: skip
@click.option("--out", required=True, metavar="FILE.html", help="The page to write.")
@click.option("--png", metavar="FOLDER", help="Write each chart as a PNG file, too.")
def report(run_dirs: tuple[str, ...], out: str, png: str | None) -> None:
    """Show a run, or several beside each other, on one page.

    Losses, metrics, speed, what the time went to, restarts, checkpoints, pictures: of a run that
    trains or has ended, from its folder alone. The page needs nothing but itself.
    """
    from trainer.run_dir import RunDir
    from trainer.run_facts import read_facts
    from trainer.run_report.page import all_charts, check_installed, look_at, page

    check_installed()
    runs = [RunDir(url) for url in dict.fromkeys(run_dirs)]
    facts = [read_facts(run) for run in runs]
    with _writing(out):
        Path(out).parent.mkdir(parents=True, exist_ok=True)
        with Path(out).open("w", encoding="utf-8") as file:
            shown = look_at(list(zip(runs, facts, strict=True)))
            file.write(page(shown, now=time.time()))
    click.echo(f"report: {out}")
    if png is not None:
        charts = all_charts(shown)
        with _writing(png):
            Path(png).mkdir(parents=True, exist_ok=True)
            for chart in charts:
                (Path(png) / f"{chart.name}.png").write_bytes(chart.png())
        click.echo(f"charts: {len(charts)} in {png}")


@contextmanager
def _writing(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}") from error
