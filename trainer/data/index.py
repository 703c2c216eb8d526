"""From a folder that TensorFlow Datasets wrote to a data set: indexes, and the manifest last."""

import hashlib
from contextlib import suppress

from trainer.data.directory import OnProgress, read_directory
from trainer.data.manifest import (
    FEATURES_FILE,
    INDEX_SUFFIX,
    MANIFEST_FILE,
    STATISTICS_FILE,
    Manifest,
    Shard,
    Split,
    write_manifest,
)
from trainer.data.tfrecord import checksum, encode_index, scan
from trainer.errors import DataError, ObjectNotFoundError, StorageError
from trainer.storage import open_storage
from trainer.storage.base import Storage


def index_directory(url: str, *, on_progress: OnProgress | None = None) -> Manifest:
    """Check a folder that TensorFlow Datasets wrote; add the indexes and the manifest to it.

    Its files stay as they are. Equal files get an equal manifest, however often this is done.

    Raises:
        DataError: a shard or split is missing, empty or damaged, or of another length than
            dataset_info.json says.
        StorageError: the folder cannot be written to; said before any record is read.
    """
    say = _say_nothing if on_progress is None else on_progress
    storage = open_storage(url)
    directory = read_directory(storage)
    try:
        features = storage.read(FEATURES_FILE)
    except ObjectNotFoundError:
        raise DataError(f"no {FEATURES_FILE} in {url}: write the data set again") from None
    try:
        storage.check_writable(MANIFEST_FILE)
    except StorageError as error:
        raise StorageError(
            f"the index of {url} belongs beside its records ({error.__cause__ or error}): let this"
            " user write there, or copy the folder and index the copy"
        ) from error
    splits = {}
    for name, files in directory.splits.items():
        shards = tuple(_index_shard(storage, file, num, say) for file, num in files)
        splits[name] = Split(name, shards)
        if splits[name].num_records == 0:
            raise DataError(
                f"split '{name}' of {directory.name} in {url} has no records:"
                " write the data set again, or without this split"
            )
    statistics = None
    with suppress(ObjectNotFoundError):
        statistics = hashlib.sha256(storage.read(STATISTICS_FILE)).hexdigest()
    manifest = Manifest(
        directory.name, directory.version, splits, hashlib.sha256(features).hexdigest(),
        statistics_sha256=statistics,
    )  # fmt: skip
    write_manifest(storage, manifest)
    return manifest


def _index_shard(storage: Storage, file: str, num_records: int, say: OnProgress) -> Shard:
    where = f"{file} in {storage.url}"
    try:
        size = storage.stat(file).size
    except ObjectNotFoundError:
        raise DataError(f"{where} is missing: write the data set again") from None
    found = scan(lambda start, length: storage.read(file, start=start, length=length), size)
    if found.bad:
        refuse_compressed(storage, file)
        offset, reason = found.bad[0]
        raise DataError(
            f"record at byte {offset} of {where}: {reason}"
            f" (damaged records: {len(found.bad)}): write the data set again"
        )
    if len(found.index.offsets) - 1 != num_records:
        raise DataError(
            f"{where} has {len(found.index.offsets) - 1} records where dataset_info.json says"
            f" {num_records}: write the data set again"
        )
    index = encode_index(found.index)
    storage.write(file + INDEX_SUFFIX, index)
    say(f"indexed {file}: {num_records} records" + (", an empty shard" * (num_records == 0)))
    return Shard(file, num_records, size, found.checksum, checksum(index))


def refuse_compressed(storage: Storage, file: str) -> None:
    """DataError when a file of records that cannot be read begins as a compressed one does."""
    head = storage.read(file, length=2)
    if head == b"\x1f\x8b" or (head[:1] == b"\x78" and int.from_bytes(head) % 31 == 0):
        raise DataError(
            f"{file} in {storage.url} is compressed, and records are read by their place in a file:"
            f" decompress it (gzip -dc {file} > NEW, where it is GZIP), or write it anew without"
            " tf.io.TFRecordOptions"
        )


def _say_nothing(_: str) -> None:
    pass
