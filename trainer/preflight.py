"""What is found out before any training: whether the data is there, and enough of it."""

from collections.abc import Callable

from trainer.config import RunConfig
from trainer.data.builtin import resolve_data_url
from trainer.data.manifest import Manifest, parse_slice, read_manifest
from trainer.data.plan import training_order
from trainer.data.verify import check_complete
from trainer.storage import Storage, open_storage


def check_data(
    config: RunConfig, *others: str, open: Callable[[str], Storage] = open_storage
) -> Manifest:
    """The manifest of the run's data, whose files, named splits and all `others` are there.

    Raises DataError, and ConfigError for a split that there is not or that has too few records.
    """
    storage = open(resolve_data_url(config.data.url))
    manifest = read_manifest(storage)
    check_complete(storage, manifest)
    for split in (config.data.train, config.data.validation, config.data.test, *others):
        if split is not None:
            parse_slice(split, manifest)
    training_order(config.data, manifest, seed=config.train.seed)
    return manifest
