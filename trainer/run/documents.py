"""The small JSON files of a run's folder: bounded, and looked at before anything trusts them."""

import json
from dataclasses import dataclass
from typing import Any

from trainer import strict_json
from trainer.checkpoint.format import MAX_DOCUMENT_BYTES
from trainer.errors import CheckpointError, ObjectNotFoundError
from trainer.storage import Storage


@dataclass(frozen=True)
class Documents:
    """Those of one folder. What is damaged raises CheckpointError, which names file and reason."""

    storage: Storage
    url: str

    def has(self, file: str) -> bool:
        """Whether there is such a file, be it damaged or not."""
        try:
            self.storage.stat(file)
        except ObjectNotFoundError:
            return False
        return True

    def read(self, file: str, **wanted: type) -> dict[str, Any] | None:
        """A JSON object that holds at least the `wanted` fields; None when there is none."""
        try:
            tree = json.loads(self.read_bytes(file))
        except ObjectNotFoundError:
            return None
        except (ValueError, RecursionError):
            raise self.damaged(file, "not JSON") from None
        if not isinstance(tree, dict):
            raise self.damaged(file, "not a JSON object")
        for name, kind in wanted.items():
            if not isinstance(tree.get(name), kind):
                raise self.damaged(file, f"no {name}")
        return tree

    def read_bytes(self, file: str) -> bytes:
        """A file of any kind. Raises ObjectNotFoundError, too."""
        if self.storage.stat(file).size > MAX_DOCUMENT_BYTES:
            raise self.damaged(file, f"larger than {MAX_DOCUMENT_BYTES} bytes")
        return self.storage.read(file)

    def write(self, file: str, tree: dict[str, Any]) -> None:
        """One JSON object; a number that is not finite becomes null."""
        self.storage.write(file, (strict_json.dumps(tree, indent=2) + "\n").encode())

    def damaged(self, file: str, reason: str) -> CheckpointError:
        """The error for a file that is not what it should be."""
        return CheckpointError(
            f"{file} in {self.url} is damaged ({reason}): restore it, or use another run.dir"
        )
