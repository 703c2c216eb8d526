"""What is found out before any training: whether the stores can be used, and the data is there."""

from collections.abc import Callable
from typing import Any

from trainer.config import RunConfig
from trainer.data.builtin import resolve_data_url
from trainer.data.manifest import Manifest, parse_slice, read_manifest
from trainer.data.plan import training_order
from trainer.data.verify import check_complete
from trainer.storage import Storage, is_remote, open_storage
from trainer.storage.access import ATTEMPT_SECONDS, Access, wait_for_access

# Tokens are refused when clocks differ by minutes.
MOST_SKEW_SECONDS = 60.0


def stores(config: RunConfig) -> dict[str, bool]:
    """The places that a run uses, and whether it writes there."""
    return {resolve_data_url(config.data.url): False, config.run.dir: True}


def wait_for_stores(config: RunConfig, open: Callable[..., Storage], log: Any) -> None:
    """Find out what the run may do in each remote store; see `wait_for_access`."""

    def on_wait(reason: str) -> None:
        log.warning("waiting for the storage", reason=reason)

    for url, writes in stores(config).items():
        if is_remote(url):
            access = wait_for_access(
                open(url, deadline_seconds=ATTEMPT_SECONDS),
                writes=writes, seconds=config.run.wait_seconds, on_wait=on_wait,
            )  # fmt: skip
            if is_skewed(access):
                log.warning("clock", store=url, reason=skew(access))


def is_skewed(access: Access) -> bool:
    """Whether the clocks differ too much."""
    return abs(access.clock_ahead or 0.0) > MOST_SKEW_SECONDS


def skew(access: Access) -> str:
    """How clocks differ, in words."""
    seconds = access.clock_ahead or 0.0
    where = "ahead of" if seconds > 0 else "behind"
    return f"the store's clock is {abs(seconds):.1f} s {where} this machine's"


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
