"""Damaged, missing and foreign records, and the proof that each is used once."""

import json
import shutil
from pathlib import Path

import pytest

from tests.faults.harness import Run, signal_at
from trainer.data.builtin import resolve_data_url
from trainer.data.index import index_directory

SHARD = "fashion_mnist-train.tfrecord-00000-of-00004"


@pytest.fixture
def data(tmp_path):
    """A copy of the built-in data set, to damage."""
    return Path(shutil.copytree(resolve_data_url("builtin:fashion_mnist"), tmp_path / "data"))


def damage_record(data: Path, record: int) -> int:
    """Flip a byte in a record of the first shard; returns the record's offset."""
    offsets = (data / f"{SHARD}.index").read_bytes()
    offset = int.from_bytes(offsets[8 * record : 8 * record + 8], "little")
    with (data / SHARD).open("r+b") as file:
        file.seek(offset + 40)
        byte = file.read(1)
        file.seek(offset + 40)
        file.write(bytes([byte[0] ^ 0xFF]))
    return offset


def test_f36_bad_record_fails_with_file_and_offset(run, data):
    offset = damage_record(data, 17)
    life = run.train(data__url=str(data))
    assert life.code == 3, life.text()
    assert f"record 17 of {SHARD}" in life.text()
    assert f"at byte {offset}" in life.text()
    assert "Traceback" not in life.text()


@pytest.mark.parametrize("cache", ["memory", "stream"])
def test_f36_bad_record_in_either_form_of_reading(run, data, cache):
    damage_record(data, 17)
    life = run.train(data__url=str(data), data__cache=cache, data__max_bad_records=1)
    assert life.code == 0, life.text()
    (skipped,) = life.events("bad record replaced")
    assert skipped["file"] == SHARD
    assert "CRC" in skipped["reason"].upper()


def test_f36_more_bad_records_than_allowed(run, data):
    damage_record(data, 17)
    life = run.train(data__url=str(data), data__max_bad_records=1, train__epochs=1)
    assert life.code == 0, life.text()
    damage_record(data, 30)
    life = run.train(data__url=str(data), data__max_bad_records=1)
    assert life.code == 3, life.text()
    assert "data.max_bad_records is 1" in life.text(), life.text()
    # The way out that it names.
    life = run.train(data__url=str(data), data__max_bad_records=2)
    assert life.code == 0, life.text()
    assert len(life.events("bad record replaced")) == 2


def test_f37_fewer_records_than_streams_is_refused(run):
    life = run.train(data__train="train[:5]")
    assert life.code == 2, life.text()
    assert "5 records cannot feed 8 streams" in life.text()


def test_f37_a_missing_shard_is_named(run, data):
    (data / SHARD).unlink()
    life = run.train(data__url=str(data))
    assert life.code == 3, life.text()
    assert f"{SHARD} is missing" in life.text(), life.text()


def test_f37_no_data_set_at_all(run, tmp_path):
    life = run.train(data__url=str(tmp_path))
    assert life.code == 3, life.text()
    assert "trainer data prepare" in life.text(), life.text()


def test_f39_schema_drift_names_feature_and_file(run, data):
    features = json.loads((data / "features.json").read_text())
    parts = features["featuresDict"]["features"]
    parts["weight"] = parts["label"]
    (data / "features.json").write_text(json.dumps(features))
    life = run.train(data__url=str(data))
    assert life.code == 3, life.text()
    assert f"features.json in {data} has sha256" in life.text()
    index_directory(str(data))
    life = run.train(data__url=str(data))
    assert life.code == 3, life.text()
    assert "feature 'weight' is missing" in life.text()
    assert SHARD in life.text()


def test_f39_a_recipe_for_other_features(run, data):
    features = json.loads((data / "features.json").read_text())
    parts = features["featuresDict"]["features"]
    parts["kind"] = parts.pop("label")
    (data / "features.json").write_text(json.dumps(features))
    index_directory(str(data))
    life = run.train(data__url=str(data))
    assert life.code == 2, life.text()
    assert "KeyError: 'label'" in life.text()
    assert "the features image, kind" in life.text()


def lineage(run: Run) -> dict[int, list[int]]:
    """The records of every step, as its last execution saw them."""
    lines = (run.folder / "records.jsonl").read_text().splitlines()
    return {entry["step"]: entry["records"] for entry in map(json.loads, lines)}


@pytest.mark.parametrize("cache", [pytest.param("memory", marks=pytest.mark.long), "stream"])
def test_f40_every_record_once_an_epoch_across_kills(run, cache):
    settings = {"recipe": "tests.faults.recipe:recording", "data__cache": cache}
    often = {"checkpoint__every_steps": 2, "checkpoint__background": False}
    for at in (3, 7, 5):
        life = run.train(callbacks=[signal_at(at)], **often, **settings)
        assert life.code == -9, life.text()
    assert run.train(**settings).code == 0
    assert [life.events("restore")[0]["step"] for life in run.lives] == [0, 2, 8, 12]
    steps = lineage(run)
    epochs = [
        [record for step in range(epoch * 9, epoch * 9 + 9) for record in steps[step]]
        for epoch in range(2)
    ]
    assert len(run.fired()) == 3
    assert sorted(steps) == list(range(18))
    assert len(set(epochs[0])) == len(epochs[0]) == 270
    assert sorted(epochs[0]) == sorted(epochs[1])
    assert epochs[0] != epochs[1]
