"""Making the bytes of prepared records depend on their content alone.

TensorFlow Datasets serializes the features of a record in the order of a hash map, which differs
from process to process: equal data would get unequal checksums and, to a run, another identity.
"""

from pathlib import Path

from trainer.data.tfrecord import check_records, cut_records, frame, scan
from trainer.errors import DataError

_CHUNK_RECORDS = 1000


def canonicalize(file: Path) -> None:
    """Rewrite a TFRecord file of `tf.train.Example`s with their features in sorted order.

    Raises:
        DataError: a record is damaged or is no such example.
    """
    import tensorflow as tf

    temporary = file.with_name(f".{file.name}.canonical")
    with file.open("rb") as original, temporary.open("wb") as rewritten:

        def read(start: int, length: int) -> bytes:
            original.seek(start)
            return original.read(length)

        index = scan(read, file.stat().st_size).index
        for first in range(0, len(index.offsets) - 1, _CHUNK_RECORDS):
            part = index.part(first, _CHUNK_RECORDS)
            start, end = part.offsets[[0, -1]].tolist()
            data = read(start, end - start)
            for position, reason in check_records(data, part).items():
                raise DataError(f"record {first + position} of {file}: {reason}: prepare it again")
            for payload in cut_records(data, part.offsets):
                example = tf.train.Example.FromString(payload)
                rewritten.write(frame(example.SerializeToString(deterministic=True)))
    temporary.replace(file)
