"""The end of what each worker printed, kept in the run's folder: a deleted pod can be explained.

logs/worker-INDEX/FENCE.log   of a generation of the run, numbered as events/ and checkpoints are
"""

import re
from dataclasses import dataclass

from trainer.storage import Storage

LOGS = "logs"
_NAME = re.compile(rf"{LOGS}/worker-(\d+)/(\d+)\.log")


@dataclass(frozen=True, order=True)
class KeptLog:
    """Where the log of one worker of one generation lies.

    Its size in bytes, and the time of its last change (seconds, Unix).
    """

    generation: int
    worker: int
    bytes: int = 0
    updated: float = 0.0

    @property
    def path(self) -> str:
        """In the run's folder."""
        return f"{folder_of(self.worker)}/{self.generation:06d}.log"


def folder_of(worker: int) -> str:
    """Where all logs of one worker lie: it looks at no other's."""
    return f"{LOGS}/worker-{worker}"


def kept_logs(storage: Storage, folder: str = LOGS) -> list[KeptLog]:
    """Those of the run whose folder `storage` is, in order. Raises StorageError."""
    entries = [(entry, _NAME.fullmatch(entry.path)) for entry in storage.list(folder)]
    return sorted(
        KeptLog(int(name[2]), int(name[1]), entry.size, entry.updated)
        for entry, name in entries
        if name is not None
    )
