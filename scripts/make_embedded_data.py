"""Writes the data set that comes with the package from the arrays of real images.

    python scripts/make_embedded_data.py fashion_mnist_5000_1000.npz

The result is the same, byte for byte, at every run with the same TensorFlow: TensorFlow Datasets
orders the records by a hash of their number, so classes are mixed, and nothing that depends on
the place or the time is kept.
"""

import argparse
import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.image_classification.mnist import FashionMNIST

from trainer.data.canonical import canonicalize
from trainer.data.index import index_directory

FOLDER = Path(__file__).resolve().parent.parent / "trainer" / "data" / "embedded" / "fashion_mnist"
DESCRIPTION = (
    "A part of Fashion-MNIST: the first 500 training and the first 100 test images of each of the"
    " 10 classes, 28x28 grayscale."
)
NUM_SHARDS = {"train": 4, "test": 1}
KEPT_INFO = (
    "citation",
    "fileFormat",
    "location",
    "name",
    "splits",
    "supervisedKeys",
)
NOTICE = """\
fashion_mnist: a part of Fashion-MNIST (https://github.com/zalandoresearch/fashion-mnist), the
first 500 training and the first 100 test images of each class, unchanged, as PNG inside of
TFRecord files. Copyright (c) 2017 Zalando SE, MIT licence: see LICENSE.
"""
LICENSE = """\
The MIT License (MIT)

Copyright (c) 2017 Zalando SE, https://tech.zalando.com

Permission is hereby granted, free of charge, to any person obtaining a copy
of this software and associated documentation files (the "Software"), to deal
in the Software without restriction, including without limitation the rights
to use, copy, modify, merge, publish, distribute, sublicense, and/or sell
copies of the Software, and to permit persons to whom the Software is
furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all
copies or substantial portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR
IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY,
FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE
AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER
LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM,
OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE
SOFTWARE.
"""


class Part(FashionMNIST, skip_registration=True):
    """One split of the part; features, classes and citation are those of the whole."""

    name = "fashion_mnist"
    VERSION = tfds.core.Version("1.0.0")
    pkg_dir_path = FashionMNIST.pkg_dir_path

    def __init__(self, split: str, arrays: dict[str, np.ndarray], **kwargs: Any) -> None:
        self._split = split
        self._part = arrays
        super().__init__(**kwargs)

    def _split_generators(self, _: Any) -> dict[str, Any]:
        return {self._split: self._examples()}

    def _examples(self) -> Iterator[tuple[int, dict[str, Any]]]:
        images, labels = self._part[f"x_{self._split}"], self._part[f"y_{self._split}"]
        for number, (image, label) in enumerate(zip(images, labels, strict=True)):
            yield number, {"image": image[:, :, None], "label": int(label)}


def build(arrays: dict[str, np.ndarray], folder: Path) -> None:
    """Write the data set of `arrays` to `folder`, which is emptied first."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    infos = []
    with tempfile.TemporaryDirectory() as scratch:
        for split, num_shards in NUM_SHARDS.items():
            # One build a split, since TensorFlow Datasets gives all splits equally many shards.
            builder = Part(split, arrays, data_dir=f"{scratch}/{split}", file_format="tfrecord")
            config = tfds.download.DownloadConfig(num_shards=num_shards, try_download_gcs=False)
            builder.download_and_prepare(download_config=config)
            built = Path(builder.data_dir)
            infos.append(json.loads((built / "dataset_info.json").read_text()))
            shutil.copytree(built, folder, dirs_exist_ok=True)
    info = {key: infos[0][key] for key in KEPT_INFO} | {
        "description": DESCRIPTION,
        "splits": [split for info in infos for split in info["splits"]],
        "version": str(Part.VERSION),
    }
    for shard in folder.glob("*.tfrecord*"):
        canonicalize(shard)
    text = json.dumps(info, indent=1, sort_keys=True)
    (folder / "dataset_info.json").write_text(text + "\n")
    (folder / "LICENSE").write_text(LICENSE)
    (folder / "NOTICE").write_text(NOTICE)
    index_directory(str(folder))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("npz", type=Path, help="x_train, y_train, x_test, y_test")
    parser.add_argument("--to", type=Path, default=FOLDER)
    arguments = parser.parse_args()
    with np.load(arguments.npz) as arrays:
        build(dict(arrays), arguments.to)


if __name__ == "__main__":
    main()
