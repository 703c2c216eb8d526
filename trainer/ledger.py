"""Where the seconds of a run went, kept in its folder: one small object a life of its workers.

An object is written anew every few seconds while its life lasts, and stays as it is after that.
"""

import logging
from functools import partial

from pydantic import TypeAdapter, ValidationError

from trainer.errors import ObjectNotFoundError
from trainer.goodput import Generation, Ledger, chain
from trainer.storage import Entry, Storage
from trainer.storage.parallel import in_parallel

GOODPUT = "goodput"
MOST_BYTES = 16 << 10

_JSON = TypeAdapter(Generation)
_log = logging.getLogger(__name__)


def read(storage: Storage) -> Ledger:
    """The ledger of the run whose folder `storage` is; empty when none was kept.

    Of a run that is trained just now, the last seconds are missing. Raises StorageError.
    """
    entries = list(storage.list(GOODPUT))
    found = in_parallel([partial(_read, storage, entry) for entry in entries])
    return chain([life for life in found if life is not None])


def newest(storage: Storage) -> Generation | None:
    """The last life before this one. Raises StorageError."""
    for entry in reversed(list(storage.list(GOODPUT))):
        if (life := _read(storage, entry)) is not None:
            return life
    return None


def write(storage: Storage, life: Generation) -> None:
    """Keep what is known of a life. Raises StorageError."""
    storage.write(f"{GOODPUT}/{life.number:06d}.json", _JSON.dump_json(life))


def _read(storage: Storage, entry: Entry) -> Generation | None:
    """A life; None for what is none, whose seconds are `down` then."""
    try:
        if entry.size <= MOST_BYTES:
            return _JSON.validate_json(storage.read(entry.path), strict=True)
    except ObjectNotFoundError:  # the run is deleted just now
        return None
    except ValidationError:
        pass
    _log.warning("%s in %s is damaged: its seconds count as down", entry.path, storage.url)
    return None
