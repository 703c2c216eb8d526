"""Files of one's own become a data set: columns, splits, and the same bytes again."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow_datasets as tfds

from tests.own_files import digits, prepared, rows, write_csv, write_images, write_parquet
from trainer.data.facts import read_facts
from trainer.data.manifest import MANIFEST_FILE, read_manifest
from trainer.data.own import sorted_shards
from trainer.data.own.columns import Survey
from trainer.data.own.prepare import prepare_own
from trainer.data.own.survey import Wishes, read_kinds
from trainer.data.prepare import deliver, prepare
from trainer.data.verify import verify
from trainer.errors import ConfigError, DataError
from trainer.storage import open_storage

TABLE = rows(60)


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


def test_sentences_have_no_vocabulary(tmp_path: Path) -> None:
    """A new record has another one, of which a vocabulary would know nothing."""
    (tmp_path / "said.csv").write_text(
        "text,mood,kind\n"
        + "".join(f"number {n},{'good' if n % 2 else 'bad'},{n % 3}\n" for n in range(30))
    )
    prepared(tmp_path, "said.csv", "kind", test=0.0)
    statistics = read_facts(open_storage(str(tmp_path / "data"))).statistics
    assert statistics["mood"].vocabulary == ("bad", "good")
    assert "text" not in statistics


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


def save_arrays(file: Path, labels: Any) -> None:
    np.savez(file, x=np.arange(2.0 * len(labels)).reshape(-1, 2), y=labels)


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.bool_, str])
def test_labels_of_one_column_are_classes(tmp_path: Path, dtype: type) -> None:
    """As those of Keras' CIFAR-10 are."""
    labels = (np.arange(20) % 2).astype(dtype)
    for name, shape in (("flat", (20,)), ("column", (20, 1))):
        save_arrays(tmp_path / f"{name}.npz", labels.reshape(shape))
        prepared(tmp_path, f"{name}.npz", "y", to=name)
    flat, column = (read_facts(open_storage(str(tmp_path / to))) for to in ("flat", "column"))
    assert column.label("y").num_classes == 2
    assert (column.classes, column.statistics) == (flat.classes, flat.statistics)
    found = [records(tmp_path / to, "train") for to in ("flat", "column")]
    assert str(found[0]) == str(found[1])


def test_a_column_of_integers_that_is_no_label_stays_a_vector(tmp_path: Path) -> None:
    np.savez(tmp_path / "own.npz", x=np.arange(20).reshape(20, 1), y=np.arange(20) % 2)
    prepared(tmp_path, "own.npz", "y")
    assert records(tmp_path / "data", "train")[0]["x"].shape == (1,)


@pytest.mark.parametrize("shape", [(20,), (20, 1), (20, 2)])
def test_numbers_are_a_label_to_be_predicted(tmp_path: Path, shape: tuple[int, ...]) -> None:
    save_arrays(tmp_path / "own.npz", np.arange(np.prod(shape), dtype=np.float32).reshape(shape))
    prepared(tmp_path, "own.npz", "y")
    label = read_facts(open_storage(str(tmp_path / "data"))).features["y"]
    assert (label.kind, label.num_classes, label.shape) == ("float_list", None, shape[1:])


def test_a_column_of_integers_may_be_predicted_as_a_number(tmp_path: Path) -> None:
    save_arrays(tmp_path / "own.npz", np.arange(20).reshape(20, 1))
    prepared(tmp_path, "own.npz", "y", kinds=read_kinds(["y=number"]))
    label = read_facts(open_storage(str(tmp_path / "data"))).features["y"]
    assert (label.kind, label.num_classes, label.shape) == ("float_list", None, ())


@pytest.mark.parametrize(
    # labels, what is said of them
    ("labels", "message"),
    [
        (
            np.eye(20, dtype=np.int64),
            r"--label y: integers of shape 20 are no class: save .*argmax",
        ),
        (np.zeros((20, 3, 2), np.uint8), r"--label y: images of shape 3 x 2 x 1 are no class"),
    ],
)
def test_a_label_that_can_be_no_class_is_refused(tmp_path: Path, labels: Any, message: str) -> None:
    save_arrays(tmp_path / "own.npz", labels)
    with pytest.raises(ConfigError, match=message):
        prepared(tmp_path, "own.npz", "y")
    assert not (tmp_path / "data").exists()


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


# Of macOS' screenshots, of another encoding, of a shell's mistake.
STRANGE = ["3.15\u202fPM.png", "caf\udce9.png", "a\nb.png", "b\\x.png"]


def test_images_whose_names_cannot_be_paths_are_broken_rows(tmp_path: Path) -> None:
    write_images(tmp_path / "pictures", 20)
    for name in STRANGE:
        (tmp_path / "pictures" / "3" / name).write_bytes(b"")
    (tmp_path / "pictures" / "lost\u202fclass").mkdir()
    (tmp_path / "pictures" / ".hidden\u202f").mkdir()
    with pytest.raises(DataError, match=r"3/\S+\.png: its name has characters that no path"):
        prepared(tmp_path, "pictures", None)
    done = prepared(tmp_path, "pictures", None, max_bad_records=5)
    places = [*(f"3/{name}" for name in STRANGE), "lost\u202fclass"]
    shown = [f"{tmp_path}/pictures/{repr(place)[1:-1]}" for place in places]
    assert sorted(place for place, _ in done.bad) == sorted(shown)


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


def test_a_repetition_keeps_and_other_records_are_refused(tmp_path: Path) -> None:
    write_csv(tmp_path / "digits.csv", TABLE)
    first = prepared(tmp_path, "digits.csv").manifest
    assert prepared(tmp_path, "digits.csv").manifest == first
    write_csv(tmp_path / "digits.csv", TABLE[:50])
    with pytest.raises(ConfigError, match="holds digits with other records"):
        prepared(tmp_path, "digits.csv")
    assert read_manifest(open_storage(str(tmp_path / "data"))) == first


@pytest.mark.parametrize("other", [1, 3])
def test_a_data_set_of_another_format_is_never_written_over(tmp_path: Path, other: int) -> None:
    write_csv(tmp_path / "digits.csv", TABLE)
    prepared(tmp_path, "digits.csv")
    file = tmp_path / "data" / MANIFEST_FILE
    file.write_text(file.read_text().replace('"format": 2', f'"format": {other}'))
    before = {path: path.read_bytes() for path in (tmp_path / "data").iterdir()}
    write_csv(tmp_path / "digits.csv", TABLE[:50])
    prepared(tmp_path, "digits.csv", to="built")
    refused = pytest.raises(DataError, match=f"has format {other}, this version reads format 2: ")
    with refused:
        prepared(tmp_path, "digits.csv")
    with refused:
        prepare("digits", str(tmp_path / "data"), work=tmp_path / "work")
    # Where it comes in while the records are made.
    with refused:
        deliver(*(open_storage(str(tmp_path / name)) for name in ("built", "data")), print)
    assert {path: path.read_bytes() for path in (tmp_path / "data").iterdir()} == before


def test_a_damaged_manifest_is_no_data_set_and_is_prepared_again(tmp_path: Path) -> None:
    write_csv(tmp_path / "digits.csv", TABLE)
    first = prepared(tmp_path, "digits.csv").manifest
    (tmp_path / "data" / MANIFEST_FILE).write_text("{")
    assert prepared(tmp_path, "digits.csv").manifest == first
    assert verify(open_storage(str(tmp_path / "data"))) == []


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


def test_a_type_is_what_the_user_says(tmp_path: Path) -> None:
    write_csv(tmp_path / "digits.csv", TABLE)
    prepared(tmp_path, "digits.csv", kinds=read_kinds(["pixel20=text", "pixel21=number"]))
    facts = read_facts(open_storage(str(tmp_path / "data")))
    assert facts.features["pixel20"].kind == "bytes_list"
    assert facts.features["pixel21"].kind == "float_list"
    with pytest.raises(ConfigError, match="--type a=b: write COLUMN=KIND"):
        read_kinds(["a=b"])


def test_strays_do_not_tell_whether_a_folder_has_splits(tmp_path: Path) -> None:
    write_images(tmp_path / "pictures", 20, split="train")
    (tmp_path / "pictures" / "README.md").write_text("about them")
    (tmp_path / "pictures" / "extra" / "3").mkdir(parents=True)
    (tmp_path / "pictures" / "extra" / "3" / "1.png").write_bytes(b"")
    done = prepared(tmp_path, "pictures", None, max_bad_records=2)
    assert [Path(place).name for place, _ in done.bad] == ["README.md", "1.png"]
    assert done.manifest.splits["train"].num_records == 20
