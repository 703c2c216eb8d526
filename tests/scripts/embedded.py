"""Real pictures and texts that come with the trainer, so that the scripts here need no network."""

import argparse
from pathlib import Path
from typing import Any

import tensorflow as tf

from trainer.data.builtin import resolve_data_url

_LIBRARY = 5  # of the departments of `builtin:tickets`


def options(**defaults: Any) -> argparse.Namespace:
    """The script's arguments: --NAME for each default, of its type."""
    parser = argparse.ArgumentParser()
    for name, value in defaults.items():
        flag = "--" + name.replace("_", "-")
        if isinstance(value, bool):
            parser.add_argument(flag, action=argparse.BooleanOptionalAction, default=value)
        else:
            parser.add_argument(flag, type=type(value), default=value)
    return parser.parse_args()


def pictures(name: str, count: int) -> Any:
    """((x, y), (x, y)), as keras.datasets have them: uint8 [n, 28, 28] and int64 [n].

    `count` to train on, and a fifth of that for the test.
    """
    return _pictures(name, "train", count), _pictures(name, "test", count // 5)


def texts(split: str, count: int) -> Any:
    """(texts, labels): bytes [n], and int64 [n], 1 where a ticket is of the library."""
    records = _records("tickets", split, count, {"body": tf.string, "department": tf.int64})
    return records["body"].numpy(), (records["department"].numpy() == _LIBRARY).astype("int64")


def _pictures(name: str, split: str, count: int) -> Any:
    records = _records(name, split, count, {"image": tf.string, "label": tf.int64})
    images = [tf.io.decode_png(image)[..., 0] for image in records["image"]]
    return tf.stack(images).numpy(), records["label"].numpy()


def _records(name: str, split: str, count: int, types: dict[str, Any]) -> dict[str, Any]:
    folder = Path(resolve_data_url(f"builtin:{name}"))
    files = sorted(map(str, folder.glob(f"{name}-{split}.tfrecord-*-of-?????")))
    features = {key: tf.io.FixedLenFeature([], dtype) for key, dtype in types.items()}
    records = tf.data.TFRecordDataset(files).take(count).batch(count)
    return tf.io.parse_example(records.get_single_element(), features)
