"""`trainer data`."""

from pathlib import Path
from typing import Any

import click

from trainer.cli.options import HELP_NAMES, examples, follow_parents, json_option, print_json
from trainer.errors import DataError


@click.group(
    context_settings=HELP_NAMES,
    epilog=examples(
        "trainer data list",
        "trainer data prepare mnist --to /data/mnist",
        "trainer data index /data/own/1.0.0",
        "trainer data verify /data/mnist",
    ),
)
def data() -> None:
    """Prepare, index, list and verify data sets."""


@data.command(name="list", epilog=examples("trainer data list", "trainer data list --json"))
@json_option
def list_(as_json: bool) -> None:
    """Data sets in the package, and those that are known to prepare well.

    `data.url` takes the first ones by name, `trainer data prepare` the others.
    """
    from trainer.data.catalog import list_datasets

    entries = list_datasets()
    if as_json:
        print_json([_entry(entry) for entry in entries])
        return
    from trainer.cli.tables import megabytes, print_table

    print_table(
        ("NAME", "RECORDS", ">SIZE", "LICENCE", "NOTE"),
        [
            (
                entry.name, _records(entry.splits), megabytes(entry.size_bytes), entry.licence,
                entry.note,
            )
            for entry in entries
        ],
    )  # fmt: skip


def _entry(entry: Any) -> dict[str, Any]:
    return {
        "name": entry.name, "builtin": entry.is_builtin, "splits": entry.splits,
        "bytes": entry.size_bytes, "licence": entry.licence, "note": entry.note,
    }  # fmt: skip


def _records(splits: dict[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in splits.items())


@data.command(
    epilog=examples(
        "trainer data prepare fashion_mnist --to /data/fashion_mnist",
        "trainer data prepare mnist --to /data/mnist --source ~/Downloads/mnist   # no network",
        "trainer train -c fashion_mnist --set data.url=/data/fashion_mnist",
    )
)
@click.argument("name")
@click.option(
    "--to", required=True, metavar="DIR", callback=follow_parents, help="Where the records go."
)
@click.option(
    "--source", metavar="DIR", type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="A folder with the original files: nothing is downloaded.",
)  # fmt: skip
@json_option
def prepare(name: str, to: str, source: Path | None, as_json: bool) -> None:
    """Build a data set of TensorFlow Datasets, check it, and write its manifest last.

    An interrupted preparation is not a data set; the same command goes on with it. This is the
    only command that may download.
    """
    from trainer.data.prepare import prepare as prepare_dataset

    _show_ready(prepare_dataset(name, to, source=source, on_progress=_say), to, as_json=as_json)


@data.command(
    epilog=examples(
        "trainer data index /data/own/1.0.0",
        "trainer train -c run.yaml --set data.url=/data/own/1.0.0",
    )
)
@click.argument("url", callback=follow_parents)
@json_option
def index(url: str, as_json: bool) -> None:
    """Make a data set of your own ready, where TensorFlow Datasets wrote it.

    URL is a folder NAME/VERSION with dataset_info.json, features.json and TFRecord shards, as
    `tfds build` and `store_as_tfds_dataset` write it. Every record is checked; indexes are added,
    and the manifest last. Interrupted, the same command does it anew.
    """
    from trainer.data.index import index_directory

    _show_ready(index_directory(url, on_progress=_say), url, as_json=as_json)


def _show_ready(manifest: Any, url: str, *, as_json: bool) -> None:
    splits = {split.name: split.num_records for split in manifest.splits.values()}
    if as_json:
        facts = {"name": manifest.name, "version": manifest.version, "splits": splits}
        print_json({**facts, "url": url, "content_sha256": manifest.content_hash})
    else:
        click.echo(f"ready: {manifest.name} {manifest.version} in {url} ({_records(splits)})")
        click.echo(f"use it with: --set data.url={url}")


@data.command(
    epilog=examples("trainer data verify /data/mnist", "trainer data verify builtin:fashion_mnist")
)
@click.argument("url", callback=follow_parents)
@json_option
def verify(url: str, as_json: bool) -> None:
    """Read every record and compare with the manifest; exit code 3 if anything differs."""
    from trainer.data.builtin import resolve_data_url
    from trainer.data.verify import verify as find_problems
    from trainer.storage import open_storage

    storage = open_storage(resolve_data_url(url))
    next(
        iter(storage.list()), None
    )  # or a bucket that is not there would be one without a manifest
    problems = [str(p) for p in find_problems(storage, on_progress=None if as_json else _say)]
    if as_json:
        print_json({"ok": not problems, "problems": problems})
        if problems:
            raise click.exceptions.Exit(DataError.exit_code)
    elif problems:
        lines = "".join(f"\n  {problem}" for problem in problems)
        raise DataError(f"{url} is damaged: prepare or index it again{lines}")
    else:
        click.echo(f"ok: every record of {url} is as its manifest says")


def _say(line: str) -> None:
    click.echo(line, err=True)
