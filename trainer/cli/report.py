"""`trainer report`."""

import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from trainer.cli.options import examples, follow_parents
from trainer.errors import ConfigError
from trainer.storage import is_remote

if TYPE_CHECKING:
    from trainer.run.run_dir import RunDir


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
    from trainer.run.facts import read_facts
    from trainer.run.report.page import all_charts, check_installed, look_at, page
    from trainer.run.run_dir import RunDir

    check_installed()
    _check_local(out, "--out", "report.html")
    if png is not None:
        _check_local(png, "--png", "charts")
    given = [RunDir(url) for url in run_dirs]
    runs = list({_place(run): run for run in reversed(given)}.values())[::-1]
    facts = [read_facts(run) for run in runs]
    shown = look_at(list(zip(runs, facts, strict=True)))
    # Names that are no Unicode become question marks.
    made = page(shown, now=time.time()).encode(errors="replace")
    with _writing(out):
        _write(Path(out), made)
    click.echo(f"report: {out}")
    if png is not None:
        charts = all_charts(shown)
        with _writing(png):
            Path(png).mkdir(parents=True, exist_ok=True)
            for chart in charts:
                (Path(png) / f"{chart.name}.png").write_bytes(chart.png())
        click.echo(f"charts: {len(charts)} in {png}")


def _check_local(path: str, option: str, example: str) -> None:
    """ConfigError for what names no local file or folder."""
    if not path.strip() or "\0" in path:
        raise ConfigError(f"{option} {path!r} names nothing: write a path, as {option} {example}")
    if path == "-":
        raise ConfigError(f"{option} - is not standard output: write a path, as {option} {example}")
    if is_remote(path) or re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", path):
        raise ConfigError(
            f"{option} {path} is a URL, and reports are written to local paths alone: write "
            f"{option} {example}, and copy it from there"
        )


def _place(run: "RunDir") -> str:
    """Equal for two ways to write one folder."""
    url = run.storage.url
    return url if is_remote(url) else os.path.realpath(url)


def _write(path: Path, data: bytes) -> None:
    """Write a file, or leave it as it was; links and devices stay what they are."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_symlink() or (path.exists() and not path.is_file()):
        path.write_bytes(data)
        return
    temporary = path.with_name(f".{path.name[:80]}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def _writing(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}") from error
