"""Files that people have: digits of the package as images in folders, and as tables."""

import csv
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from trainer.data.builtin import resolve_data_url
from trainer.data.own.prepare import Prepared, prepare_own
from trainer.data.own.survey import Wishes

NAMES = [f"pixel{number}" for number in range(64)]


@cache
def digits() -> tuple[Any, Any]:
    """uint8 [1437, 8, 8, 1] up to 16, and the classes."""
    import tensorflow_datasets as tfds

    builder = tfds.builder_from_directory(resolve_data_url("builtin:digits"))
    records = list(tfds.as_numpy(builder.as_dataset(split="train")))
    return np.stack([r["image"] for r in records]), np.array([r["label"] for r in records])


def write_images(folder: Path, count: int, *, split: str = "") -> None:
    """`count` PNG files, in folders that are called as their digit."""
    import tensorflow as tf

    images, labels = digits()
    for number in range(count):
        target = folder / split / str(labels[number]) / f"{number}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(tf.io.encode_png(images[number] * 15).numpy())


def rows(count: int) -> list[dict[str, Any]]:
    """The same as rows of a table: pixels, whether there is much ink (a text), and the digit."""
    images, labels = digits()
    found = []
    for image, label in zip(images[:count], labels[:count], strict=True):
        ink = "much" if image.mean() > 5 else "little"
        pixels = dict(zip(NAMES, image.ravel().tolist(), strict=True))
        found.append({**pixels, "ink": ink, "digit": f"the {label}"})
    return found


def write_csv(
    file: Path, table: list[dict[str, Any]], broken: dict[int, str] | None = None
) -> None:
    """The table, with some of its lines replaced; lines are numbered from 1, the header's."""
    with file.open("w", newline="") as opened:
        writer = csv.DictWriter(opened, list(table[0]))
        writer.writeheader()
        writer.writerows(table)
    lines = file.read_text().splitlines()
    for line, text in (broken or {}).items():
        lines[line - 1] = text
    file.write_text("\n".join(lines) + "\n")


def write_parquet(file: Path, table: list[dict[str, Any]]) -> None:
    """The table."""
    import pyarrow as pa
    from pyarrow import parquet

    parquet.write_table(pa.Table.from_pylist(table), file)


def prepared(
    tmp_path: Path, source: str, label: str | None = "digit", *, to: str = "data", **more: Any
) -> Prepared:
    """What `trainer data prepare --from` makes of `source` there; `more` are wishes."""
    wishes = Wishes(label=label, **{k: more.pop(k) for k in list(more) if k != "max_bad_records"})
    target = str(tmp_path / to)
    return prepare_own(str(tmp_path / source), target, wishes, work=tmp_path / "work", **more)
