"""`trainer data`."""

from pathlib import Path
from typing import Any

import click

from trainer.cli.options import HELP_NAMES, examples, follow_parents, json_option, print_json
from trainer.errors import ConfigError, DataError


@click.group(
    context_settings=HELP_NAMES,
    epilog=examples(
        "trainer data list",
        "trainer data prepare mnist --to /data/mnist",
        "trainer data prepare --from table.csv --label kind --to /data/own",
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
        "trainer data prepare --from photos --to /data/photos          # photos/CLASS/FILE",
        "trainer data prepare --from wine.csv --label kind --to gs://bucket/wine",
        "trainer data prepare --from wine.csv --label kind --to /data/wine --on-bad skip",
        "trainer train -c tabular_classifier --set data.url=/data/wine",
    )
)
@click.argument("name", required=False)
@click.option(
    "--to", required=True, metavar="URL", callback=follow_parents, help="Where the records go."
)
@click.option(
    "--source", metavar="DIR", type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="A folder with the original files of NAME: nothing is downloaded.",
)  # fmt: skip
@click.option(
    "--from", "own", metavar="DIR|FILE", callback=follow_parents,
    help="Data of your own instead of NAME: a folder of images, CLASS/FILE or SPLIT/CLASS/FILE, "
    "or a .csv, .parquet or .npz file; here or in gs://.",
)  # fmt: skip
@click.option("--label", metavar="COLUMN", help="The column of a file that holds the class.")
@click.option(
    "--type", "kinds", multiple=True, metavar="COLUMN=KIND",
    help="What a column holds where its values do not tell: integer, number, text or class; "
    "repeatable.",
)  # fmt: skip
@click.option(
    "--test", type=click.FloatRange(0, 1, max_open=True), metavar="SHARE",
    help="Records that become split 'test'; by default a tenth, unless the source has splits.",
)  # fmt: skip
@click.option(
    "--validation", type=click.FloatRange(0, 1, max_open=True), metavar="SHARE", default=0.0,
    help="Records that become split 'validation'; by default none.",
)  # fmt: skip
@click.option(
    "--seed", type=click.IntRange(0, 2**63), metavar="N", default=0,
    help="Of the hashes by which records go to splits, and get their order; by default 0.",
)  # fmt: skip
@click.option(
    "--on-bad", type=click.Choice(["fail", "skip"]), default="fail",
    help="A row or an image that cannot be used ends it (by default), or is named and left out.",
)  # fmt: skip
@click.option(
    "--max-bad-records", type=click.IntRange(0), metavar="N", default=100,
    help="With --on-bad skip: so many at most; by default 100.",
)  # fmt: skip
@json_option
def prepare(
    name: str | None, to: str, source: Path | None, own: str | None, as_json: bool, **wishes: Any
) -> None:
    """Build a data set of TensorFlow Datasets, or of files of your own.

    Records are checked, and the manifest is written last. An interrupted preparation is not a data
    set; the same command goes on with it. This is the only command that may download.
    """
    if (name is None) == (own is None):
        raise ConfigError("give the NAME of a data set, or --from with files of your own")
    if own is not None:
        if source is not None:
            raise ConfigError("--source has the original files of NAME: give --from alone")
        _prepare_own(own, to, as_json=as_json, **wishes)
        return
    if given := [key for key in ("label", "test", "validation", "kinds") if wishes[key]]:
        option = {"kinds": "type"}.get(given[0], given[0])
        raise ConfigError(f"--{option} is for files of your own, by --from: {name} has its own")
    from trainer.data.prepare import prepare as prepare_dataset

    _show_ready(
        prepare_dataset(name or "", to, source=source, on_progress=_say), to, as_json=as_json
    )


def _prepare_own(
    own: str, to: str, *, as_json: bool, on_bad: str, max_bad_records: int, kinds: tuple[str, ...],
    **wished: Any,
) -> None:  # fmt: skip
    from trainer.tensorflow_start import importing_tensorflow

    with importing_tensorflow():
        from trainer.data.own.prepare import prepare_own
        from trainer.data.own.survey import Wishes, read_kinds

    wishes = Wishes(kinds=read_kinds(kinds), **wished)
    bound = max_bad_records if on_bad == "skip" else 0
    done = prepare_own(own, to, wishes, max_bad_records=bound, on_progress=_say)
    bad = [{"place": place, "reason": reason} for place, reason in done.bad]
    _show_ready(done.manifest, to, as_json=as_json, bad_records=bad)


@data.command(
    epilog=examples(
        "trainer data index /data/own/1.0.0",
        "trainer data index gs://bucket/records --label kind",
        "trainer train -c run.yaml --set data.url=/data/own/1.0.0",
    )
)
@click.argument("url", callback=follow_parents)
@click.option(
    "--label", metavar="FEATURE",
    help="Of files that nobody described: the integers that are classes, from 0 on.",
)  # fmt: skip
@json_option
def index(url: str, label: str | None, as_json: bool) -> None:
    """Make TFRecord files of your own ready, where they lie.

    URL is a folder NAME/VERSION with dataset_info.json, features.json and TFRecord shards, as
    `tfds build` and `store_as_tfds_dataset` write it; or a folder with uncompressed files of
    tf.train.Examples alone, as train-00000-of-00002.tfrecord and test.tfrecord, whose features are
    then found out and described beside them. Every record is checked; indexes are added, and the
    manifest last. Interrupted, the same command does it anew.
    """
    from trainer.data.directory import is_described
    from trainer.data.index import index_directory
    from trainer.tensorflow_start import importing_tensorflow

    if not is_described(url):
        with importing_tensorflow():
            from trainer.data.own.describe import describe

        describe(url, label=label, say=_say)
    elif label is not None:
        raise ConfigError(
            f"--label {label}: {url} is described by its features.json already: leave --label out, "
            "or remove features.json and dataset_info.json, which say what its label is"
        )
    _show_ready(index_directory(url, on_progress=_say), url, as_json=as_json)


def _show_ready(manifest: Any, url: str, *, as_json: bool, **more: list[Any]) -> None:
    splits = {split.name: split.num_records for split in manifest.splits.values()}
    if as_json:
        facts = {"name": manifest.name, "version": manifest.version, "splits": splits}
        print_json({**facts, "url": url, "content_sha256": manifest.content_hash, **more})
    else:
        if more.get("bad_records"):
            click.echo(f"left out: {len(more['bad_records'])} bad records, named above")
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
