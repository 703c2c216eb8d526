"""How often a run may fail without a new step; the count lives in the run's folder."""

from dataclasses import dataclass

from pydantic import Field, ValidationError

from trainer.checkpoint.names import CHECKPOINTS, COMMIT_FILE, folder_name, parse_folder
from trainer.config import Section
from trainer.errors import NoProgressError, ObjectNotFoundError
from trainer.storage import Storage

RESTARTS_FILE = "restarts.json"
_LONGEST_WAIT_SECONDS = 30.0


class _Record(Section):
    """The highest step that failed workers reached, and failures in a row without a higher one.

    `saved` is the newest committed checkpoint at the last failure. A later one proves steps that no
    failure told of: of workers that were stopped, or whose agents were killed with them.
    """

    step: int = Field(-1, ge=-1)
    failures: int = Field(0, ge=0)
    saved: str = ""


@dataclass(frozen=True)
class Restarts:
    """Failures of the run whose folder `storage` is."""

    storage: Storage
    limit: int

    def failed(self, step: int | None, reason: str) -> float:
        """Count a failure of a worker that reached `step`; seconds to wait before the next one.

        Raises NoProgressError when it was one too many, StorageError.
        """
        before = self._read()
        reached = -1 if step is None else step
        saved = self._newest()
        is_farther = reached > before.step or saved != before.saved
        record = _Record(
            step=max(reached, before.step), saved=saved,
            failures=1 if is_farther else before.failures + 1,
        )  # fmt: skip
        if record.failures > self.limit:
            # Whoever starts it again, after mending what was wrong, has all tries again.
            self.storage.delete(RESTARTS_FILE)
            raise NoProgressError(
                f"{_workers(record.failures)} failed without a new step, the last at step "
                f"{max(record.step, 0)}: {reason}; mend the cause and start again, or raise "
                "run.max_restarts"
            )
        self.storage.write(RESTARTS_FILE, record.model_dump_json().encode())
        return min(2.0 ** (record.failures - 2), _LONGEST_WAIT_SECONDS) if not is_farther else 0.0

    def _newest(self) -> str:
        paths = [entry.path.split("/") for entry in self.storage.list(CHECKPOINTS)]
        committed = {path[1] for path in paths if path[2:] == [COMMIT_FILE]}
        newest = max((key[::-1] for name in committed if (key := parse_folder(name))), default=None)
        return "" if newest is None else folder_name(*newest[::-1])

    def _read(self) -> _Record:
        try:
            return _Record.model_validate_json(self.storage.read(RESTARTS_FILE))
        except (ObjectNotFoundError, ValidationError):
            # A count that was damaged starts again: it bounds restarts, nothing depends on it.
            return _Record()


def _workers(number: int) -> str:
    return "a worker" if number == 1 else f"{number} workers in a row"
