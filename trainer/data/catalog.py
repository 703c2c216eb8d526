"""The data sets that a user can choose from without bringing any."""

from dataclasses import dataclass

from trainer.data.builtin import SCHEME, builtin_names, resolve_data_url
from trainer.data.manifest import read_manifest
from trainer.storage import open_storage


@dataclass(frozen=True)
class DatasetEntry:
    """One line of `trainer data list`.

    `name` is what `data.url` takes for data sets in the package, and what `trainer data
    prepare` takes for the others. `splits` maps names to numbers of records.
    """

    name: str
    is_builtin: bool
    splits: dict[str, int]
    size_bytes: int
    licence: str
    note: str


_BUILTIN_LICENCES = {
    "digits": "CC BY 4.0, E. Alpaydin and C. Kaynak",
    "fashion_mnist": "MIT, Zalando SE",
    "mnist": "CC BY-SA 3.0, Yann LeCun and Corinna Cortes",
    "photos": "CC0 or public domain, ten photos of scikit-image's",
    "tickets": "PSF version 2, Python Software Foundation",
}

# Sizes of the prepared records; TensorFlow Datasets 4.9.
_PREPARABLE = (
    DatasetEntry(
        "fashion_mnist",
        False,
        {"train": 60_000, "test": 10_000},
        38_000_000,
        "MIT, Zalando SE",
        "downloads 31 MB, or --source with the four *-ubyte.gz files",
    ),
    DatasetEntry(
        "mnist",
        False,
        {"train": 60_000, "test": 10_000},
        22_000_000,
        "CC BY-SA 3.0, Yann LeCun and Corinna Cortes",
        "downloads 12 MB, or --source with the four *-ubyte.gz files",
    ),
    DatasetEntry(
        "cifar10",
        False,
        {"train": 50_000, "test": 10_000},
        139_000_000,
        "none stated, Alex Krizhevsky",
        "downloads 170 MB, or --source with cifar-10-binary.tar.gz",
    ),
    DatasetEntry(
        "beans",
        False,
        {"train": 1_034, "validation": 133, "test": 128},
        180_000_000,
        "MIT, Makerere AI Lab",
        "downloads 180 MB, or --source with train.zip, validation.zip and test.zip",
    ),
)


def list_datasets() -> tuple[DatasetEntry, ...]:
    """Data sets in the package, then those that are known to prepare well.

    Any other of TensorFlow Datasets that needs no account can be prepared too.
    """
    return (*map(_builtin_entry, builtin_names()), *_PREPARABLE)


def _builtin_entry(name: str) -> DatasetEntry:
    manifest = read_manifest(open_storage(resolve_data_url(SCHEME + name)))
    shards = [shard for split in manifest.splits.values() for shard in split.shards]
    return DatasetEntry(
        SCHEME + name,
        True,
        {split.name: split.num_records for split in manifest.splits.values()},
        sum(shard.size_bytes for shard in shards),
        _BUILTIN_LICENCES.get(name, "see its LICENSE"),
        "comes with the trainer: ready to use, no download",
    )
