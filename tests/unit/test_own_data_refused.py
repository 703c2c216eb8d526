"""What files of one's own cannot be made a data set, and how it is said."""

import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.own_files import prepared, rows, write_csv, write_parquet
from trainer.cli.data import data as data_command
from trainer.data.facts import read_facts
from trainer.data.index import index_directory
from trainer.data.own import prepare as own
from trainer.data.own.columns import Column
from trainer.data.own.prepare import open_source, prepare_own
from trainer.data.own.survey import Wishes, read_kinds
from trainer.data.verify import check_complete, verify
from trainer.errors import ConfigError, DataError, StorageError
from trainer.storage import open_storage

TABLE = rows(60)


@pytest.mark.parametrize(
    ("kind", "value", "message"),
    [
        ("integer", "1.5", "'1.5' is not an integer"),
        ("integer", str(2**63), "of 64 bits"),
        ("number", "inf", "beyond what 32 bits hold"),
        ("number", "oops", "'oops' is not a number"),
        ("number", "2024_01", "'2024_01' is not a number"),
        ("integer", "2024_01", "'2024_01' is not an integer"),
        ("number", np.array([1e300]), "beyond what 32 bits hold"),
        ("integer", np.array([2**64 - 1], np.uint64), "more than 64 bits"),
        ("text", "\udcff", "not UTF-8"),
        ("class", "", "no class"),
        ("class", "z", "'z' is not one of the classes"),
    ],
)
def test_a_bad_value_is_told(kind: str, value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Column("x", kind, classes={"a": 0, "b": 1}).convert(value)


BROKEN = {5: "1,2,3", 9: ",".join(["x"] + ["1"] * 63 + ["much", "the 1"])}


def test_broken_rows_are_named_with_file_and_line(tmp_path: Path) -> None:
    write_csv(tmp_path / "digits.csv", TABLE, BROKEN)
    with pytest.raises(DataError, match=r"digits\.csv, line 5: 3 values for 66 columns: mend it"):
        prepared(tmp_path, "digits.csv")
    assert not (tmp_path / "data").exists()
    done = prepared(tmp_path, "digits.csv", max_bad_records=2)
    assert done.bad == [
        ("digits.csv, line 5", "3 values for 66 columns"),
        ("digits.csv, line 9", "pixel0: 'x' is not an integer"),
    ]
    assert sum(split.num_records for split in done.manifest.splits.values()) == 58
    with pytest.raises(DataError, match=r"line 9: .* \(bad so far: 2\)"):
        prepared(tmp_path, "digits.csv", max_bad_records=1, to="other")


def test_lines_that_an_open_quote_swallows_are_counted(tmp_path: Path) -> None:
    write_csv(tmp_path / "digits.csv", TABLE, {50: '"never closed'})
    with pytest.raises(DataError, match=r"line 50: .* to line 61"):
        prepared(tmp_path, "digits.csv", max_bad_records=10)


@pytest.mark.parametrize(
    ("wishes", "message"),
    [
        ({"label": None}, "name the column of the class by --label: one of pixel0"),
        ({"label": "digits"}, "there is no column 'digits'"),
        ({"label": "digit", "kinds": {"pixel99": "text"}}, "there is no column 'pixel99'"),
    ],
)
def test_a_column_that_there_is_not(tmp_path: Path, wishes: dict, message: str) -> None:
    write_csv(tmp_path / "digits.csv", TABLE)
    with pytest.raises(ConfigError, match=message):
        prepare_own(
            str(tmp_path / "digits.csv"), str(tmp_path / "data"), Wishes(**wishes),
            work=tmp_path / "work",
        )  # fmt: skip


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("a.csv", b"only\n1\n", "its first line must name the columns"),
        ("a.csv", b"a,a\n1,2\n", "column 2 is called 'a'"),
        ("a.csv", b"a," + b"b" * 200_000 + b"\n1,2\n", "field larger than field limit"),
        ("a.csv", b"a,b\n", "has no rows that can be used"),
        ("a.csv", b"a,b\n1\n", r"no rows that can be used: a\.csv, line 2: 1 values for 2"),
        ("a.csv", b"a,b\n1,x\n2,x\n", "'b' has 1 classes"),
        ("a.parquet", b"none of it", "is no Parquet file"),
        ("a.npz", b"none of it", "is no .npz file"),
    ],
)
def test_a_file_that_is_none(tmp_path: Path, file: str, content: bytes, message: str) -> None:
    (tmp_path / file).write_bytes(content)
    with pytest.raises(DataError, match=message):
        prepared(tmp_path, file, "b")


def break_zip(file: Path) -> None:
    data = file.read_bytes()
    file.write_bytes(data[:4000] + bytes(100) + data[4100:])


def break_parquet(file: Path) -> None:
    data = file.read_bytes()
    file.write_bytes(data[:100] + b"\xff" * 1000 + data[1100:])


def test_a_file_that_is_damaged_inside(tmp_path: Path) -> None:
    numbers, labels = np.random.default_rng(0).normal(size=9000), np.arange(9000) % 2
    for name, save in (("a.npz", np.savez), ("b.npz", np.savez_compressed)):
        save(tmp_path / name, x=numbers, b=labels)
        break_zip(tmp_path / name)
        with pytest.raises(DataError, match=r"npz, row \d+ cannot be read"):
            prepared(tmp_path, name, "b")
    with zipfile.ZipFile(tmp_path / "c.npz", "w") as archive:
        archive.writestr("notes.txt", "no array")
    with pytest.raises(DataError, match=r"'notes\.txt' is no array"):
        prepared(tmp_path, "c.npz", "b")
    write_parquet(tmp_path / "a.parquet", [{"x": n, "b": "uv"[n % 2]} for n in range(9000)])
    break_parquet(tmp_path / "a.parquet")
    with pytest.raises(DataError, match=r"a\.parquet cannot be read after row 0, it is damaged"):
        prepared(tmp_path, "a.parquet", "b")


def test_times_that_python_does_not_have(tmp_path: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    table = pa.table({"t": pa.array([1, 2], pa.time64("ns")), "b": ["u", "v"]})
    parquet.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(DataError, match="values that Python does not have: Nanosecond"):
        prepared(tmp_path, "a.parquet", "b")


def test_a_split_for_training_there_must_be(tmp_path: Path) -> None:
    write_csv(tmp_path / "digits.csv", TABLE)
    with pytest.raises(DataError, match="none of 60 rows is for training"):
        prepared(tmp_path, "digits.csv", test=0.5, validation=0.5)
    kinds = read_kinds(["ink=integer"])
    with pytest.raises(DataError, match=r"no record is in split 'train', of 60 rows: mend those"):
        prepared(tmp_path, "digits.csv", test=0.0, kinds=kinds, max_bad_records=60)


def test_a_full_disk_is_named(tmp_path: Path) -> None:
    with (
        pytest.raises(StorageError, match=r"no space is left in .*: free some, or set XDG_CACHE"),
        own.work_folder(tmp_path),
    ):
        Path("/dev/full").write_bytes(b"x")


def test_a_source_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no file .*a\.csv: check --from"):
        open_source(str(tmp_path / "a.csv"))
    (tmp_path / "a.tsv").write_text("a\tb")
    with pytest.raises(ConfigError, match=r"a\.tsv is no \.csv, \.parquet, \.npz file, nor a fol"):
        open_source(str(tmp_path / "a.tsv"))
    with pytest.raises(ConfigError, match=r"no folder .*nowhere: check --from"):
        open_source(str(tmp_path / "nowhere"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"no files in .*empty: put images into folders"):
        prepared(tmp_path, "empty", None)


@pytest.mark.parametrize("place", ["3", "train/3"])
def test_a_linked_folder_is_named_and_no_linked_file(tmp_path: Path, place: str) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "1.png").touch()
    link = tmp_path / "pictures" / place
    (link.parent / "4").mkdir(parents=True)
    (link.parent / "4" / "1.png").symlink_to(tmp_path / "elsewhere" / "1.png")
    source = open_source(str(tmp_path / "pictures"))
    assert [row.place.rpartition("/")[2] for row in source.rows()] == ["1.png"]
    link.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match=rf"pictures/{place} is a link to a folder: put"):
        open_source(str(tmp_path / "pictures"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "give the NAME of a data set, or --from"),
        (["mnist", "--from", "x.csv"], "give the NAME of a data set, or --from"),
        (["mnist", "--label", "x"], "--label is for files of your own"),
        (["--from", "x.csv", "--source", "."], "--source has the original files of NAME"),
        (["--from", ".", "--to", "./data"], "is inside of --from"),
    ],
)
def test_options_that_do_not_go_together(words: list[str], message: str) -> None:
    command = ["prepare", *words, *(["--to", "data"] if "--to" not in words else [])]
    with pytest.raises(ConfigError, match=message):
        data_command.main(command, standalone_mode=False)


def test_a_file_is_no_place_for_a_data_set(tmp_path: Path) -> None:
    write_csv(tmp_path / "digits.csv", TABLE)
    with pytest.raises(ConfigError, match=r"--to .*digits\.csv is a file: name a folder"):
        prepared(tmp_path, "digits.csv", to="digits.csv")


def test_two_at_once_are_refused(tmp_path: Path) -> None:
    write_csv(tmp_path / "digits.csv", TABLE)
    with own.work_folder(tmp_path / "work"), pytest.raises(ConfigError, match="another process"):
        prepared(tmp_path, "digits.csv")


def test_damaged_statistics_are_found(tmp_path: Path) -> None:
    write_csv(tmp_path / "digits.csv", TABLE)
    manifest = prepared(tmp_path, "digits.csv").manifest
    storage, file = open_storage(str(tmp_path / "data")), tmp_path / "data" / "statistics.json"
    # A model is made by them: with others, it is another data set.
    assert replace(manifest, statistics_sha256=None).content_hash != manifest.content_hash
    file.write_text(file.read_text().replace("much", "more"))
    assert [problem.file for problem in verify(storage)] == ["statistics.json"]
    with pytest.raises(DataError, match=rf"statistics\.json in {tmp_path}/data has sha256 \w+, .*"):
        read_facts(storage)
    file.write_text("{}")
    index_directory(storage.url)
    with pytest.raises(DataError, match=r"statistics\.json in .* is damaged \(KeyError\)"):
        read_facts(storage)
    file.unlink()
    with pytest.raises(DataError, match=r"statistics\.json in .* is missing"):
        read_facts(storage)
    with pytest.raises(DataError, match=r"statistics\.json is missing"):
        check_complete(storage, manifest)


def test_changed_statistics_are_taken_as_another_data_set_alone(tmp_path: Path) -> None:
    write_csv(tmp_path / "digits.csv", TABLE)
    first = prepared(tmp_path, "digits.csv").manifest
    storage, file = open_storage(str(tmp_path / "data")), tmp_path / "data" / "statistics.json"
    file.write_text(file.read_text().replace("much", "more"))
    changed = index_directory(storage.url)
    assert read_facts(storage).statistics["ink"].vocabulary == ("little", "more")
    assert changed.content_hash != first.content_hash
    # What came beside the records after they were indexed is no part of the data set.
    content = file.read_bytes()
    file.unlink()
    index_directory(storage.url)
    file.write_bytes(content)
    assert read_facts(storage).statistics == {}


def test_changed_statistics_are_mended_by_the_same_preparation(tmp_path: Path) -> None:
    write_csv(tmp_path / "digits.csv", TABLE)
    first = prepared(tmp_path, "digits.csv").manifest
    file = tmp_path / "data" / "statistics.json"
    file.write_text(file.read_text().replace("much", "more"))
    assert prepared(tmp_path, "digits.csv").manifest == first
    facts = read_facts(open_storage(str(tmp_path / "data")))
    assert facts.statistics["ink"].vocabulary == ("little", "much")
