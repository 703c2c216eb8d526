"""Whether this process may use a store, found out before any work is done.

A new identity is known to a cloud only after up to a minute, and a name server or a network may be
as late: such refusals are waited for. A bucket that is not there is refused at once.
"""

import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass

from trainer.errors import NoBucketError, ObjectNotFoundError, RefusedError, StorageError
from trainer.storage.base import Entry, Storage

# One request, repeated or not: a refusal of another kind may follow, and is then told.
ATTEMPT_SECONDS = 5.0
_POLL_SECONDS = 2.0
PROBES = ".access-"
# Other processes may try at the same time.
_PROBE = f"{PROBES}{uuid.uuid4().hex}"


@dataclass(frozen=True)
class Access:
    """What one try of everything came to.

    refusals: the error of each operation that failed, by its name, in the order of trying.
    clock_ahead: seconds that the store's clock is ahead of ours; None where nothing was written.
    """

    refusals: dict[str, StorageError]
    clock_ahead: float | None = None


def try_access(storage: Storage, *, writes: bool, clock: Callable[[], float] = time.time) -> Access:
    """Try what a run does in a store: list, read and, if it `writes`, create, replace and delete.

    Leaves nothing behind, unless it may not delete.
    """
    created: list[Entry | None] = []
    attempts: dict[str, Callable[[], object]] = {
        "list": lambda: next(iter(storage.list()), None),
        "create": lambda: created.append(storage.create(_PROBE, b"")),
        "read": lambda: storage.read(_PROBE),
        "replace": lambda: storage.write(_PROBE, b""),
        "delete": lambda: storage.delete(_PROBE),
    }
    if not writes:
        attempts = {name: attempts[name] for name in ("list", "read")}
    refusals: dict[str, StorageError] = {}
    for name, attempt in attempts.items():
        try:
            attempt()
        except ObjectNotFoundError:
            pass  # allowed to look, but nobody created it
        except StorageError as error:
            refusals[name] = error
            if not isinstance(error, RefusedError):
                break  # the others would fail alike
    ahead = created[0].updated - clock() if created and created[0] else None
    return Access(refusals, ahead)


def wait_for_access(
    storage: Storage,
    *,
    writes: bool,
    seconds: float,
    on_wait: Callable[[str], None],
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Access:
    """Try until nothing is refused; `on_wait` is told each reason once.

    Raises the first refusal: of a bucket that is not there at once, any other after `seconds`.
    """
    deadline = clock() + seconds
    told = set()
    while True:
        access = try_access(storage, writes=writes)
        if not access.refusals:
            return access
        error = next(iter(access.refusals.values()))
        if isinstance(error, NoBucketError):
            raise error
        if str(error) not in told:
            told.add(str(error))
            on_wait(str(error))
        if clock() >= deadline:
            raise error
        sleep(_POLL_SECONDS)
