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
    spent, problems = read_all(storage)
    for problem in problems:
        _log.warning("%s", problem)
    return spent


def read_all(storage: Storage) -> tuple[Ledger, list[str]]:
    """The ledger, as `read` has it, and what cannot be read. Raises StorageError."""
    found = in_parallel([partial(_read, storage, entry) for entry in _entries(storage)])
    problems = [problem for problem in found if isinstance(problem, str)]
    return chain([life for life in found if isinstance(life, Generation)]), problems


def newest(storage: Storage) -> Generation | None:
    """The last life before this one. Raises StorageError."""
    for entry in reversed(_entries(storage)):
        found = _read(storage, entry)
        if isinstance(found, Generation):
            return found
        if found is not None:
            _log.warning("%s", found)
    return None


def write(storage: Storage, life: Generation) -> None:
    """Keep what is known of a life. Raises StorageError."""
    storage.write(_path(life.number), _JSON.dump_json(life))


def _path(number: int) -> str:
    return f"{GOODPUT}/{number:06d}.json"


def _entries(storage: Storage) -> list[Entry]:
    """Those that may be lives; somebody's notes beside them are none."""
    return [entry for entry in storage.list(GOODPUT) if entry.path.endswith(".json")]


def _read(storage: Storage, entry: Entry) -> Generation | str | None:
    """A life, or why it is none: its seconds are `down` then."""
    place = f"{entry.path} in {storage.url}"
    try:
        if entry.size > MOST_BYTES:
            return f"{place} is damaged (larger than {MOST_BYTES} bytes)"
        life = _JSON.validate_json(storage.read(entry.path), strict=True)
    except ObjectNotFoundError:  # the run is deleted just now
        return None
    except ValidationError:
        return f"{place} is damaged: its seconds count as down"
    if entry.path != _path(life.number):
        return f"{place} says that it is {_path(life.number)}: it is passed over"
    return life
