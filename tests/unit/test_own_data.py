"""Files of one's own become a data set: columns, splits, broken rows, and the same bytes again."""

import json
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow_datasets as tfds

from tests.own_files import digits, rows, write_csv, write_images, write_parquet
from trainer.cli.data import data as data_command
from trainer.data.facts import read_facts
from trainer.data.manifest import MANIFEST_FILE, read_manifest
from trainer.data.own import prepare as own
from trainer.data.own import sorted_shards
from trainer.data.own.columns import Column, Survey
from trainer.data.own.prepare import open_source, prepare_own
from trainer.data.own.survey import Wishes, read_kinds
from trainer.data.verify import check_complete, verify
from trainer.errors import ConfigError, DataError, StorageError
from trainer.storage import open_storage

TABLE = rows(60)


def prepared(tmp_path: Path, source: str, label: str | None = "digit", *, to="data", **more):
    wishes = Wishes(label=label, **{k: more.pop(k) for k in list(more) if k != "max_bad_records"})
    target = str(tmp_path / to)
    return prepare_own(str(tmp_path / source), target, wishes, work=tmp_path / "work", **more)


def records(folder: Path, split: str) -> list[dict]:
    """As TensorFlow Datasets reads them."""
    builder = tfds.builder_from_directory(str(folder))
    return list(tfds.as_numpy(builder.as_dataset(split=split)))


@pytest.mark.parametrize(
    # values of a column of a CSV file, what it is taken for
    ("values", "kind"),
    [
        (["1", "-2", "+3"], "integer"),
        (["1", "2.5"], "number"),
        (["1", ""], "number"),
        (["1e3", "nan"], "number"),
        (["a", "1"], "text"),
        (["2024_01", "2024_02"], "text"),
        (["", ""], "text"),
        ([*["1"] * 20, "oops"], "integer"),
        ([str(2**63)], "number"),
    ],
)
def test_a_column_is_what_most_of_its_values_are(values: list[str], kind: str) -> None:
    found = Survey("x", is_typed=False)
    for value in values:
        found.add(value)
    assert found.kind() == kind


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


def test_a_table_is_a_data_set_of_tensorflow_datasets(tmp_path: Path) -> None:
    write_csv(tmp_path / "digits.csv", TABLE)
    manifest = prepared(tmp_path, "digits.csv").manifest
    storage = open_storage(str(tmp_path / "data"))
    assert verify(storage) == []
    names = [f"the {n}" for n in range(10)]
    found = records(tmp_path / "data", "train") + records(tmp_path / "data", "test")
    assert len(found) == 60 == sum(split.num_records for split in manifest.splits.values())

    def plain(row: dict) -> tuple:
        pixels = tuple(int(row[name]) for name in TABLE[0] if name.startswith("pixel"))
        return (*pixels, row["ink"].decode(), names[row["digit"]])

    assert sorted(map(plain, found)) == sorted(tuple(row.values()) for row in TABLE)
    train = records(tmp_path / "data", "train")
    facts = read_facts(storage)
    pixels = [row["pixel20"] for row in train]
    assert facts.statistics["pixel20"].mean == pytest.approx(np.mean(pixels))
    assert facts.statistics["pixel20"].deviation == pytest.approx(np.std(pixels))
    assert facts.statistics["ink"].vocabulary == ("little", "much")
    assert facts.classes == {"digit": tuple(names)}
    assert facts.label().num_classes == 10


def test_parquet_and_csv_give_the_same_records(tmp_path: Path) -> None:
    write_csv(tmp_path / "digits.csv", TABLE)
    write_parquet(tmp_path / "digits.parquet", TABLE)
    sets = []
    for file in ("digits.csv", "digits.parquet"):
        prepared(tmp_path, file, to=file + "-data", test=0.0)
        found = records(tmp_path / (file + "-data"), "train")
        sets.append(sorted(json.dumps(row, default=str, sort_keys=True) for row in found))
    assert sets[0] == sets[1]


def test_arrays_have_splits_of_their_own(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 255, (9, 8, 8), np.uint8)
    vectors = np.arange(18.0).reshape(9, 2)
    labels = np.arange(9) % 3
    parts = {"train": slice(0, 6), "test": slice(6, 9)}
    np.savez(
        tmp_path / "own.npz",
        **{f"x_{split}": images[part] for split, part in parts.items()},
        **{f"v_{split}": vectors[part] for split, part in parts.items()},
        **{f"y_{split}": labels[part] for split, part in parts.items()},
    )
    prepared(tmp_path, "own.npz", "y")
    found = sorted(records(tmp_path / "data", "train"), key=lambda row: row["v"][0])
    assert np.array_equal(np.stack([row["x"] for row in found])[..., 0], images[:6])
    assert np.array_equal(np.stack([row["v"] for row in found]), vectors[:6])
    assert [row["y"] for row in found] == labels[:6].tolist()
    assert len(records(tmp_path / "data", "test")) == 3
    statistics = read_facts(open_storage(str(tmp_path / "data"))).statistics
    assert statistics["v"].mean == vectors[:6].mean(axis=0).tolist()


def test_images_in_folders_and_what_is_none_of_them(tmp_path: Path) -> None:
    write_images(tmp_path / "pictures", 20)
    (tmp_path / "pictures" / "3" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    (tmp_path / "pictures" / "3" / "notes.txt").write_text("not a picture")
    (tmp_path / "pictures" / ".DS_Store").write_text("no part of it")
    with pytest.raises(DataError, match=r"3/broken\.png: image: it cannot be decoded"):
        prepared(tmp_path, "pictures", None)
    assert not (tmp_path / "data").exists()
    done = prepared(tmp_path, "pictures", None, max_bad_records=2)
    assert [Path(place).name for place, _ in done.bad] == ["broken.png", "notes.txt"]
    found = records(tmp_path / "data", "train") + records(tmp_path / "data", "test")
    assert sorted(row["label"] for row in found) == sorted(digits()[1][:20])
    assert found[0]["image"].shape == (8, 8, 3)


def test_a_folder_may_have_splits(tmp_path: Path) -> None:
    write_images(tmp_path / "pictures", 20, split="train")
    write_images(tmp_path / "pictures", 10, split="test")
    manifest = prepared(tmp_path, "pictures", None, validation=0.3).manifest
    assert manifest.splits["test"].num_records == 10
    assert 0 < manifest.splits["validation"].num_records < 20
    with pytest.raises(ConfigError, match=r"--test 0\.2: the source has a split 'test'"):
        prepared(tmp_path, "pictures", None, test=0.2, to="other")


def test_a_record_stays_in_its_split_when_others_come(tmp_path: Path) -> None:
    splits = []
    for count in (40, 60):
        write_csv(tmp_path / "digits.csv", TABLE[:count])
        prepared(tmp_path, "digits.csv", to=f"data{count}", test=0.2, validation=0.2)
        splits.append(
            {
                split: {tuple(row[f"pixel{n}"] for n in range(64)) for row in found}
                for split in ("train", "validation", "test")
                if (found := records(tmp_path / f"data{count}", split))
            }
        )
    for split, before in splits[0].items():
        assert before <= splits[1][split]


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


def test_a_repetition_keeps_and_other_records_are_refused(tmp_path: Path) -> None:
    write_csv(tmp_path / "digits.csv", TABLE)
    first = prepared(tmp_path, "digits.csv").manifest
    assert prepared(tmp_path, "digits.csv").manifest == first
    write_csv(tmp_path / "digits.csv", TABLE[:50])
    with pytest.raises(ConfigError, match="holds digits with other records"):
        prepared(tmp_path, "digits.csv")
    assert read_manifest(open_storage(str(tmp_path / "data"))) == first


def test_many_shards_hold_what_one_does(tmp_path: Path, monkeypatch) -> None:
    write_csv(tmp_path / "digits.csv", TABLE)
    one = prepared(tmp_path, "digits.csv", test=0.0, to="one").manifest.splits["train"]
    monkeypatch.setattr(sorted_shards, "SHARD_BYTES", 2000)
    many = prepared(tmp_path, "digits.csv", test=0.0, to="many").manifest.splits["train"]
    assert len(one.shards) == 1 < len(many.shards)
    data = [
        b"".join((tmp_path / to / shard.file).read_bytes() for shard in split.shards)
        for to, split in (("one", one), ("many", many))
    ]
    assert data[0] == data[1]
    assert not list((tmp_path / "many").glob(".unsorted*"))


def test_an_interrupted_preparation_is_no_data_set_and_goes_on(tmp_path: Path) -> None:
    write_csv(tmp_path / "digits.csv", TABLE)
    whole = prepared(tmp_path, "digits.csv", to="whole").manifest

    def stop(line: str) -> None:
        if line.startswith("copied"):
            raise KeyboardInterrupt

    source, to = str(tmp_path / "digits.csv"), tmp_path / "data"
    with pytest.raises(KeyboardInterrupt):
        prepare_own(
            source, str(to), Wishes(label="digit"), on_progress=stop, work=tmp_path / "work"
        )
    assert not (to / MANIFEST_FILE).exists()
    # What a killed one leaves, it leaves for the next to clear.
    (tmp_path / "work" / "build-dead").mkdir()
    assert prepared(tmp_path, "digits.csv").manifest == whole
    assert list((tmp_path / "work").iterdir()) == []


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


def test_a_type_is_what_the_user_says(tmp_path: Path) -> None:
    write_csv(tmp_path / "digits.csv", TABLE)
    prepared(tmp_path, "digits.csv", kinds=read_kinds(["pixel20=text", "pixel21=number"]))
    facts = read_facts(open_storage(str(tmp_path / "data")))
    assert facts.features["pixel20"].kind == "bytes_list"
    assert facts.features["pixel21"].kind == "float_list"
    with pytest.raises(ConfigError, match="--type a=b: write COLUMN=KIND"):
        read_kinds(["a=b"])


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


def test_strays_do_not_tell_whether_a_folder_has_splits(tmp_path: Path) -> None:
    write_images(tmp_path / "pictures", 20, split="train")
    (tmp_path / "pictures" / "README.md").write_text("about them")
    (tmp_path / "pictures" / "extra" / "3").mkdir(parents=True)
    (tmp_path / "pictures" / "extra" / "3" / "1.png").write_bytes(b"")
    done = prepared(tmp_path, "pictures", None, max_bad_records=2)
    assert [Path(place).name for place, _ in done.bad] == ["README.md", "1.png"]
    assert done.manifest.splits["train"].num_records == 20


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
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"no files in .*empty: put images into folders"):
        prepared(tmp_path, "empty", None)


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
    file.write_text("{}")
    with pytest.raises(DataError, match=r"statistics\.json in .* is missing or damaged"):
        read_facts(storage)
    file.unlink()
    with pytest.raises(DataError, match=r"statistics\.json is missing"):
        check_complete(storage, manifest)
