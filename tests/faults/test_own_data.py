"""Files of one's own go to a trained model by two commands, whatever happens to either."""

import json
import signal

import pytest

from tests.faults.groups import wait_until
from tests.faults.harness import Life, Run, finish, signal_at
from tests.own_files import rows, write_csv, write_images, write_parquet
from trainer.data.manifest import read_manifest
from trainer.data.verify import verify
from trainer.errors import DataError
from trainer.storage import open_storage

QUIET = {"metrics.enabled": False, "export.formats": ["keras"]}
SMALL_IMAGES = {"params.image_size": 8, "params.blocks": 2, "params.filters": 16}
SMALL_TABLE = {"params.units": 32, "params.learning_rate": 0.01}
NUM_ROWS = 600
# The header is line 1.
BROKEN = {line: f"{line},no,row" for line in range(50, 601, 100)}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A folder of images, a CSV file with 1 % of broken rows, and a Parquet file."""
    folder = tmp_path_factory.mktemp("files")
    table = rows(NUM_ROWS)
    write_images(folder / "images", NUM_ROWS)
    write_csv(folder / "table.csv", table, BROKEN)
    write_parquet(folder / "table.parquet", table)
    return folder


def start_prepare(zygote, folder, *args, environ=None):
    """`trainer data prepare`, which works in a cache of its own."""
    output = folder / f"prepare-{len(list(folder.glob('prepare-*')))}.txt"
    request = {"argv": ["data", "prepare", *map(str, args)], "output": str(output)}
    env = {"XDG_CACHE_HOME": str(folder / "cache"), **(environ or {})}
    answer = zygote.ask(request | {"env": env, "cwd": str(folder)})
    return Life(zygote, answer["pid"], output)


def prepare(zygote, folder, *args, **more):
    life = start_prepare(zygote, folder, *args, **more)
    life.wait()
    return life


def trained(zygote, folder, recipe, settings, **more):
    run = Run(zygote, folder, QUIET | settings, packaged=recipe, **more)
    life = run.train()
    assert life.code == 0, life.text()
    return run.summary()


# source, options, recipe, its settings
SOURCES = [
    ("images", [], "image_classifier", SMALL_IMAGES),
    ("table.csv", ["--label", "digit", "--on-bad", "skip"], "tabular_classifier", SMALL_TABLE),
    pytest.param(
        "table.parquet", ["--label", "digit"], "tabular_classifier", SMALL_TABLE,
        marks=pytest.mark.long,
    ),
]  # fmt: skip


@pytest.mark.parametrize(("source", "options", "recipe", "settings"), SOURCES)
def test_two_commands_from_files_to_a_model(
    zygote, tmp_path, files, source, options, recipe, settings
):
    life = prepare(zygote, tmp_path, "--from", files / source, "--to", tmp_path / "data", *options)
    assert life.code == 0, life.text()
    summary = trained(
        zygote, tmp_path, recipe, settings | {"data.url": str(tmp_path / "data"), "train.epochs": 8}
    )
    assert summary["test"]["accuracy"] > 0.8
    assert summary["model"]
    for line in BROKEN if source == "table.csv" else ():
        assert f"left out table.csv, line {line}: 3 values for 66 columns" in life.text()


@pytest.mark.long
@pytest.mark.needs_gcs
@pytest.mark.usefixtures("proxy")
@pytest.mark.parametrize(("source", "options", "recipe", "settings"), SOURCES)
def test_the_same_in_a_bucket_from_a_bucket(
    zygote, tmp_path, files, gcs, source, options, recipe, settings
):
    bucket, url = open_storage("gs://bucket/files"), f"gs://bucket/prepared/{source}"
    for file in files.rglob("*"):
        if file.is_file() and file.relative_to(files).parts[0] == source:
            bucket.write(str(file.relative_to(files)), file.read_bytes())
    environ = gcs.environment()
    life = prepare(
        zygote, tmp_path, "--from", f"gs://bucket/files/{source}", "--to", url, *options,
        environ=environ,
    )  # fmt: skip
    assert life.code == 0, life.text()
    local = prepare(zygote, tmp_path, "--from", files / source, "--to", tmp_path / "data", *options)
    assert local.code == 0, local.text()
    assert read_manifest(open_storage(url)) == read_manifest(open_storage(str(tmp_path / "data")))
    summary = trained(
        zygote, tmp_path, recipe, settings | {"data.url": url, "train.epochs": 1}, environ=environ
    )
    assert summary["test"]["accuracy"] > 0


def test_broken_rows_end_it_by_default_and_more_than_allowed(zygote, tmp_path, files):
    own = ["--from", files / "table.csv", "--label", "digit", "--to", tmp_path / "data"]
    life = prepare(zygote, tmp_path, *own)
    assert life.code == 3, life.text()
    assert "table.csv, line 50: 3 values for 66 columns" in life.text()
    life = prepare(zygote, tmp_path, *own, "--on-bad", "skip", "--max-bad-records", 5)
    assert life.code == 3, life.text()
    assert "table.csv, line 550" in life.text()
    assert not (tmp_path / "data").exists()


def test_json_tells_what_was_left_out(zygote, tmp_path, files):
    own = ["--from", files / "table.csv", "--label", "digit", "--to", tmp_path / "data"]
    life = prepare(zygote, tmp_path, *own, "--on-bad", "skip", "--json")
    answer = json.loads(life.text()[life.text().index("\n{") :])
    assert [bad["place"] for bad in answer["bad_records"]] == [
        f"table.csv, line {line}" for line in BROKEN
    ]
    assert sum(answer["splits"].values()) == NUM_ROWS - len(BROKEN)


def test_a_killed_preparation_is_no_data_set_and_begins_anew(zygote, tmp_path, files):
    own = ["--from", files / "images", "--to", tmp_path / "data"]
    life = start_prepare(zygote, tmp_path, *own)
    wait_until(lambda: "found 600 rows" in life.text(), "the second pass")
    life.signal(signal.SIGKILL)
    assert life.wait() == -signal.SIGKILL, life.text()
    with pytest.raises(DataError, match="absent or not completely prepared"):
        read_manifest(open_storage(str(tmp_path / "data")))
    again = prepare(zygote, tmp_path, *own)
    assert again.code == 0, again.text()
    whole = prepare(zygote, tmp_path, "--from", files / "images", "--to", tmp_path / "whole")
    assert whole.code == 0, whole.text()
    data, other = (open_storage(str(tmp_path / name)) for name in ("data", "whole"))
    assert verify(data) == []
    assert read_manifest(data) == read_manifest(other)
    assert not list((tmp_path / "cache").rglob("build-*"))


@pytest.fixture(scope="module")
def table(zygote, files, tmp_path_factory):
    """The CSV file as a data set."""
    folder = tmp_path_factory.mktemp("table")
    options = ["--label", "digit", "--to", folder / "data", "--on-bad", "skip"]
    life = prepare(zygote, folder, "--from", files / "table.csv", *options)
    assert life.code == 0, life.text()
    return str(folder / "data")


@pytest.mark.long
def test_its_training_is_killed_and_resumed(zygote, tmp_path, table):
    settings = QUIET | SMALL_TABLE | {
        "data.url": table, "train.epochs": 2, "checkpoint.every_steps": 4,
        "checkpoint.background": False, "cluster.replicas": 2,
        "data.preprocess": "tests.faults.own_preprocess:brighter",
    }  # fmt: skip
    calm, run = (
        Run(zygote, tmp_path / name, settings, packaged="tabular_classifier")
        for name in ("calm", "disturbed")
    )
    for each in (calm, run):
        each.folder.mkdir()
    assert calm.train().code == 0, calm.lives[0].text()
    early = {"name": "early_stopping", "args": {"monitor": "val_loss", "patience": 5}}
    life = run.train(callbacks=[early, signal_at(6)])
    assert life.code == -9, life.text()
    assert run.committed() == [4]
    finish(run, calm)


@pytest.mark.parametrize(
    # function, exit code, what is said
    ("function", "code", "message"),
    [
        ("random", 2, "own_preprocess:random uses RandomUniformInt, a random draw"),
        ("wrong", 2, "own_preprocess:wrong, given the features digit, ink, pixel0"),
        ("refuses", 3, "own_preprocess:refuses, given record 0 of table-train.tfrecord"),
        ("absent", 2, "has no 'absent'"),
    ],
)
def test_what_preprocess_must_not_do_is_refused_by_name(
    zygote, tmp_path, table, function, code, message
):
    settings = {"data.url": table, "data.preprocess": f"tests.faults.own_preprocess:{function}"}
    run = Run(zygote, tmp_path, QUIET | settings, packaged="tabular_classifier")
    life = run.train()
    assert life.code == code, life.text()
    assert message in life.text()


@pytest.mark.parametrize(
    ("recipe", "settings", "message"),
    [
        ("image_classifier", {}, "params.image 'image': the data set's images: -"),
        ("tabular_classifier", {"params.columns": ["pixel64"]}, "params.columns 'pixel64'"),
        ("tabular_classifier", {"params.label": "ink"}, "params.label 'ink'"),
    ],
)
def test_a_recipe_for_other_data_is_refused(zygote, tmp_path, table, recipe, settings, message):
    run = Run(zygote, tmp_path, QUIET | settings | {"data.url": table}, packaged=recipe)
    life = run.train()
    assert life.code == 2, life.text()
    assert message in life.text()
