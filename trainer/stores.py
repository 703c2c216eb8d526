"""Whether a run may use its stores, found out before anything else is done. No data is read."""

from collections.abc import Callable
from typing import Any

from trainer.config import RunConfig
from trainer.storage import Storage, is_remote
from trainer.storage.access import ATTEMPT_SECONDS, Access, wait_for_access

# Training goes on while a save waits for a store that is down: it may wait long.
DEADLINE_SECONDS = 300.0
# Tokens are refused when clocks differ by minutes.
MOST_SKEW_SECONDS = 60.0


def stores(config: RunConfig) -> dict[str, bool]:
    """The URLs that a run uses, and whether it writes there."""
    return {config.data.url: False, config.run.dir: True}


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
