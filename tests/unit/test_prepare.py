"""Preparing: what is interrupted is never complete, what is kept is verified, nothing hangs."""

import gzip
import hashlib
import json
import socket
import struct
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import numpy as np
import pytest

from tests.faults.surroundings import needs_rights, with_plain_rights
from tests.small_data import flip_bit, payload, shard_name, write_dataset, write_files
from trainer.data.builtin import builtin_names, resolve_data_url
from trainer.data.canonical import canonicalize
from trainer.data.catalog import list_datasets
from trainer.data.index import index_directory
from trainer.data.manifest import MANIFEST_FILE, Manifest, read_manifest
from trainer.data.originals import accept_local_files, check_reachable
from trainer.data.pieces import Pieces
from trainer.data.prepare import BuildRequest, prepare
from trainer.data.reader import RecordReader
from trainer.data.tfrecord import checksum, frame
from trainer.data.verify import verify
from trainer.errors import ConfigError, DataError
from trainer.storage import open_storage

EMBEDDED = "builtin:fashion_mnist"
DEBIAN = Path("/usr/share/datasets/fashion-mnist")
SPLITS = {"train": [4, 3], "test": [2]}
FIRST = shard_name("train", 0, 2)
SECOND = shard_name("train", 1, 2)


def build_small(request: BuildRequest) -> Path:
    """Stands in for TensorFlow Datasets."""
    write_files(request.work / "small", SPLITS)
    return request.work / "small"


def build_nothing(request: BuildRequest) -> Path:
    raise AssertionError("built although the data set is complete")


class Lines(list[str]):
    """Progress, and an interruption when the line `stop_at` comes."""

    def __init__(self, stop_at: str | None = None) -> None:
        super().__init__()
        self.stop_at = stop_at

    def __call__(self, line: str) -> None:
        self.append(line)
        if self.stop_at is not None and line.startswith(self.stop_at):
            raise KeyboardInterrupt


def prepare_small(tmp_path: Path, said: Lines, build=build_small):
    to = str(tmp_path / "data")
    return prepare("small", to, on_progress=said, work=tmp_path / "work", build=build)


def test_prepared_records_are_those_that_were_built(tmp_path: Path) -> None:
    manifest = prepare_small(tmp_path, Lines())
    storage = open_storage(str(tmp_path / "data"))
    assert read_manifest(storage) == manifest
    assert verify(storage) == []
    found = RecordReader(Pieces(storage), manifest, "train").read(np.arange(7)).tolist()
    assert found == [payload(i) for i in range(7)]
    assert list((tmp_path / "work").iterdir()) == []


def test_an_interrupted_preparation_is_no_data_set_and_goes_on(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        prepare_small(tmp_path, Lines(stop_at=f"copied {FIRST}"))
    with pytest.raises(DataError, match="not completely prepared"):
        read_manifest(open_storage(str(tmp_path / "data")))
    # Copied beside the first one, perhaps.
    (tmp_path / "data" / SECOND).unlink(missing_ok=True)
    said = Lines()
    prepare_small(tmp_path, said)
    assert any(line.startswith(f"kept {FIRST}") for line in said)
    assert any(line.startswith(f"copied {SECOND}") for line in said)
    assert verify(open_storage(str(tmp_path / "data"))) == []


def test_what_is_complete_is_verified_and_left(tmp_path: Path) -> None:
    manifest, said = prepare_small(tmp_path, Lines()), Lines()
    assert prepare_small(tmp_path, said, build=build_nothing) == manifest
    assert "already, verified" in said[-1]


def test_a_damaged_shard_is_replaced(tmp_path: Path) -> None:
    prepare_small(tmp_path, Lines())
    flip_bit(tmp_path / "data" / FIRST, 14)
    said = Lines()
    prepare_small(tmp_path, said)
    assert any(line.startswith(f"{FIRST}: record 0 at byte 0") for line in said)
    assert [line for line in said if line.startswith("copied")] == [
        f"copied {FIRST}: {(tmp_path / 'data' / FIRST).stat().st_size} bytes"
    ]
    assert verify(open_storage(str(tmp_path / "data"))) == []


def test_another_data_set_is_not_overwritten(tmp_path: Path) -> None:
    prepare_small(tmp_path, Lines())
    with pytest.raises(ConfigError, match=r"data set small 1\.0\.0, not mnist: choose an empty"):
        prepare("mnist", str(tmp_path / "data"), work=tmp_path / "work", build=build_nothing)


def test_another_configuration_is_another_data_set(tmp_path: Path) -> None:
    def glue(name: str) -> Manifest:
        return prepare(name, str(tmp_path / "data"), work=tmp_path / "work", build=build_nothing)

    cola = prepare_small(tmp_path, Lines())
    info = tmp_path / "data" / "dataset_info.json"
    info.write_text(json.dumps(json.loads(info.read_text()) | {"configName": "cola"}))
    manifest = tmp_path / "data" / MANIFEST_FILE
    manifest.write_text(manifest.read_text().replace('"small"', '"glue"'))
    # Its first configuration is the one that TensorFlow Datasets takes where none is named.
    for same in ("glue/cola", "glue/cola:1.0.0", "glue"):
        assert glue(same).splits == cola.splits
    with pytest.raises(ConfigError, match=r"data set glue/cola 1\.0\.0, not glue/sst2: choose an"):
        glue("glue/sst2")


def test_a_data_set_without_configurations_is_none_of_one(tmp_path: Path) -> None:
    prepare_small(tmp_path, Lines())
    with pytest.raises(ConfigError, match=r"data set small 1\.0\.0, not small/much: choose an"):
        prepare("small/much", str(tmp_path / "data"), work=tmp_path / "work", build=build_nothing)


@pytest.mark.parametrize("name", ["", "../x", "a b", "builtin:x", "huggingface:x", "Mnist", "x:1"])
def test_a_strange_name_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="names no data set"):
        prepare(name, str(tmp_path / "data"), work=tmp_path / "work", build=build_nothing)


def test_an_unknown_name_gets_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean 'fashion_mnist'"):
        prepare("fashion_mnst", str(tmp_path / "data"), work=tmp_path / "work")


def test_missing_originals_are_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"lacks t10k-images.*put the original files of mnist"):
        prepare("mnist", str(tmp_path / "data"), source=tmp_path, work=tmp_path / "work")


def test_originals_of_another_data_set_are_refused(tmp_path: Path) -> None:
    for part in ("t10k-images-idx3", "t10k-labels-idx1", "train-images-idx3", "train-labels-idx1"):
        (tmp_path / f"{part}-ubyte.gz").write_bytes(gzip.compress(b"something else"))
    to = tmp_path / "data"
    with pytest.raises(DataError, match="is not the original file"):
        prepare("fashion_mnist", str(to), source=tmp_path, work=tmp_path / "work")
    assert not to.exists()


@pytest.mark.needs_originals
def test_originals_that_were_compressed_anew_are_accepted() -> None:
    import tensorflow_datasets as tfds

    known = tfds.builder_cls("fashion_mnist")
    accepted = accept_local_files(known, known.url_infos, DEBIAN)
    assert accepted.name == "fashion_mnist"
    for info in accepted.url_infos.values():
        content = (DEBIAN / info.filename).read_bytes()
        assert info.checksum == hashlib.sha256(content).hexdigest()


class NotFound(BaseHTTPRequestHandler):
    """Answers, though not with the file."""

    def do_HEAD(self) -> None:
        self.send_error(404)

    def log_message(self, *_: object) -> None:
        pass


def test_a_host_that_answers_is_reachable() -> None:
    with HTTPServer(("127.0.0.1", 0), NotFound) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        check_reachable([f"http://127.0.0.1:{server.server_port}/file"])
        server.shutdown()


def test_no_network_is_said_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        started = time.monotonic()
        with pytest.raises(DataError, match=rf"cannot reach 127\.0\.0\.1:{port}.*--source"):
            check_reachable([f"http://127.0.0.1:{port}/a"], timeout_seconds=0.3)
        assert time.monotonic() - started < 5


@pytest.mark.parametrize(
    # records of each shard in dataset_info.json, records written
    ("damage", "message"),
    [
        ("missing", "small-train.tfrecord-00000-of-00002 in .* is missing"),
        ("bit", "record at byte 0 of small-train.tfrecord-00000-of-00002 .* payload"),
        ("short", "has 4 records where dataset_info.json says 5"),
        ("format", "records in format 'array_record'"),
        ("info", "dataset_info.json in .* is damaged"),
        ("features", "no features.json"),
    ],
)
def test_f37_a_folder_that_is_not_whole_is_refused(
    tmp_path: Path, damage: str, message: str
) -> None:
    write_files(tmp_path, SPLITS)
    info, first = tmp_path / "dataset_info.json", tmp_path / FIRST
    {
        "missing": first.unlink,
        "bit": lambda: flip_bit(first, 14),
        "short": lambda: info.write_text(info.read_text().replace('"4"', '"5"')),
        "format": lambda: info.write_text(info.read_text().replace('"tfrecord"', '"array_record"')),
        "info": lambda: info.write_text("{"),
        "features": (tmp_path / "features.json").unlink,
    }[damage]()
    with pytest.raises(DataError, match=message):
        index_directory(str(tmp_path))
    assert not (tmp_path / MANIFEST_FILE).exists()


def test_f37_a_split_without_records_is_refused(tmp_path: Path) -> None:
    write_files(tmp_path, {"train": [3], "test": [0]})
    with pytest.raises(DataError, match=r"split 'test' of small .* has no records"):
        index_directory(str(tmp_path))


def test_f37_an_empty_shard_is_said(tmp_path: Path) -> None:
    write_files(tmp_path, {"train": [3, 0]})
    said = Lines()
    manifest = index_directory(str(tmp_path), on_progress=said)
    assert manifest.splits["train"].num_records == 3
    assert said[-1].endswith("0 records, an empty shard")


def test_a_new_index_replaces_the_old_manifest(tmp_path: Path) -> None:
    old = write_dataset(tmp_path, {"train": [3]})
    write_files(tmp_path, {"train": [4]})
    new = index_directory(str(tmp_path))
    assert old.content_hash != new.content_hash
    assert verify(open_storage(str(tmp_path))) == []


def test_an_index_of_format_1_is_made_anew(tmp_path: Path) -> None:
    whole = write_dataset(tmp_path, SPLITS)
    manifest, index = tmp_path / MANIFEST_FILE, tmp_path / f"{FIRST}.index"
    offsets = index.read_bytes()[: 8 * (SPLITS["train"][0] + 1)]
    new = manifest.read_text()
    old = new.replace(checksum(index.read_bytes()), checksum(offsets))
    index.write_bytes(offsets)
    manifest.write_text(old.replace('"format": 2', '"format": 1'))
    with pytest.raises(DataError, match=f"format 1, .* run 'trainer data index {tmp_path}'"):
        read_manifest(open_storage(str(tmp_path)))
    # The same data to a run that was trained on it.
    assert index_directory(str(tmp_path)).content_hash == whole.content_hash
    assert manifest.read_text() == new


def test_an_interrupted_index_is_no_data_set_and_is_done_anew(tmp_path: Path) -> None:
    write_files(tmp_path / "whole", SPLITS)
    write_files(tmp_path / "cut", SPLITS)
    with pytest.raises(KeyboardInterrupt):
        index_directory(str(tmp_path / "cut"), on_progress=Lines(stop_at=f"indexed {FIRST}"))
    with pytest.raises(DataError, match=r"'trainer data index .*cut'"):
        read_manifest(open_storage(str(tmp_path / "cut")))
    expected = index_directory(str(tmp_path / "whole"))
    assert index_directory(str(tmp_path / "cut")) == expected
    assert verify(open_storage(str(tmp_path / "cut"))) == []


@needs_rights
def test_a_folder_of_others_is_refused_before_it_is_read(tmp_path: Path) -> None:
    write_files(tmp_path, SPLITS)
    tmp_path.chmod(0o500)
    command = (*with_plain_rights, sys.executable, "-m", "trainer", "data", "index", str(tmp_path))
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 1
    assert "copy the folder and index the copy" in result.stderr
    assert "Permission denied" in result.stderr
    assert "indexed" not in result.stderr


def test_a_refused_index_leaves_the_manifest_that_a_run_may_live_with(tmp_path: Path) -> None:
    manifest = write_dataset(tmp_path, SPLITS)
    flip_bit(tmp_path / FIRST, 14)
    with pytest.raises(DataError, match="record at byte 0"):
        index_directory(str(tmp_path))
    assert read_manifest(open_storage(str(tmp_path))) == manifest


def feature(name: str, value: bytes) -> bytes:
    """An entry of the map in a `tf.train.Example` with one string of bytes."""

    def field(number: int, content: bytes) -> bytes:
        return struct.pack("BB", number << 3 | 2, len(content)) + content

    entry = field(1, name.encode()) + field(2, field(1, field(1, value)))
    return field(1, entry)


def test_equal_examples_get_equal_bytes(tmp_path: Path) -> None:
    file, written = tmp_path / "x.tfrecord", []
    parts = [feature("image", b"1"), feature("label", b"2"), feature("a", b"3")]
    for order in (parts, parts[::-1]):
        features = b"".join(order)
        file.write_bytes(frame(struct.pack("BB", 10, len(features)) + features) * 3)
        canonicalize(file)
        written.append(file.read_bytes())
    assert written[0] == written[1]


# name, records of its splits, feature kept as it is, that with the class, the rarest class' share
EMBEDDED_SETS = [
    pytest.param(
        "fashion_mnist", {"train": 5000, "test": 1000}, "image", "label", 0.1,
        marks=pytest.mark.long,
    ),
    ("digits", {"train": 1437, "test": 360}, "image", "label", 0.09),
    ("mnist", {"train": 4000, "test": 1000}, "image", "label", 0.1),
    ("photos", {"train": 480, "test": 120}, "image", "label", 0.1),
    pytest.param(
        "tickets", {"train": 6772, "test": 1693}, "body", "department", 0.005,
        marks=pytest.mark.long,
    ),
]  # fmt: skip


@pytest.mark.parametrize(("name", "splits", "kept", "label", "rarest"), EMBEDDED_SETS)
def test_a_data_set_of_the_package_is_read_by_tensorflow_datasets(
    name: str, splits: dict[str, int], kept: str, label: str, rarest: float
) -> None:
    import tensorflow_datasets as tfds

    folder = resolve_data_url(f"builtin:{name}")
    storage = open_storage(folder)
    manifest = read_manifest(storage)
    builder = tfds.builder_from_directory(folder)
    num_classes = builder.info.features[label].num_classes
    for split, num_records in splits.items():
        reader = RecordReader(Pieces(storage), manifest, split)
        payloads = reader.read(np.arange(num_records))
        # By default TensorFlow Datasets reads several shards in turns.
        in_order = tfds.ReadConfig(interleave_cycle_length=1)
        decoders = {kept: tfds.decode.SkipDecoding()}
        dataset = builder.as_dataset(split=split, decoders=decoders, read_config=in_order)
        examples = list(tfds.as_numpy(dataset))
        assert len(examples) == num_records
        for example, found in zip(examples, payloads, strict=True):
            assert example[kept] in found
        labels = np.array([example[label] for example in examples])
        counts = np.bincount(labels, minlength=num_classes)
        assert counts.min() >= rarest * num_records
        # Mixed: the first tenth, of few records the first 40, lacks no frequent class.
        frequent = set(np.flatnonzero(counts >= 0.09 * num_records))
        assert frequent <= set(labels[: max(num_records // 10, 40)])


@pytest.mark.parametrize("name", builtin_names())
def test_a_data_set_of_the_package_is_canonical_and_licensed(name: str) -> None:
    import tensorflow as tf

    folder = resolve_data_url(f"builtin:{name}")
    storage = open_storage(folder)
    manifest = read_manifest(storage)
    assert verify(storage) == []
    every = np.arange(manifest.splits["test"].num_records)
    for found in RecordReader(Pieces(storage), manifest, "test").read(every):
        example = tf.train.Example.FromString(found)
        assert example.SerializeToString(deterministic=True) == found
    assert (Path(folder) / "NOTICE").read_text().startswith(f"{name}: ")
    assert (Path(folder) / "LICENSE").read_text()
    licences = {entry.name: entry.licence for entry in list_datasets()}
    assert licences[f"builtin:{name}"] != "see its LICENSE"


def test_images_of_the_package_stay_small() -> None:
    folders = [Path(resolve_data_url(f"builtin:{name}")) for name in builtin_names()]
    images = [f for f in folders if "image_feature" in (f / "features.json").read_text()]
    assert len(images) >= 4
    assert sum(file.stat().st_size for f in images for file in f.iterdir()) < 6_000_000


@pytest.mark.parametrize("height", [255, 256, 335, 384])
def test_rows_of_crops_are_inside_of_a_photo_and_apart(height: int) -> None:
    from scripts.make_embedded_data import row_tops

    tops = row_tops(height)
    assert len(tops) == 5
    assert (tops[0], tops[-1]) == (0, height - 32)
    assert min(np.diff(tops)) >= 32 + 20


def test_list() -> None:
    entries = {entry.name: entry for entry in list_datasets()}
    embedded = entries[EMBEDDED]
    assert embedded.splits == {"train": 5000, "test": 1000}
    assert embedded.is_builtin
    assert "MIT" in embedded.licence
    assert 3e6 < embedded.size_bytes < 4e6
    assert entries["fashion_mnist"].splits["train"] == 60_000


def test_an_unknown_name_in_the_package() -> None:
    assert resolve_data_url("/data/mnist") == "/data/mnist"
    with pytest.raises(ConfigError, match="use builtin:fashion_mnist"):
        resolve_data_url("builtin:fashion_mnits")
