"""The end of what each worker printed, kept in the run's folder: a deleted pod can be explained.

logs/worker-INDEX/FENCE.log   of a generation of the run, numbered as events/ and checkpoints are
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from trainer.storage import Storage

LOGS = "logs"
_NAME = re.compile(rf"{LOGS}/worker-(\d+)/(\d+)\.log")
_SECRET_NAME = re.compile(r"KEY|TOKEN|SECRET|PASSW|CREDENTIAL|AUTH", re.IGNORECASE)
_SECRETS = (
    re.compile(rb"(?<=://)[^/\s@]+(?=@)"),
    re.compile(rb"(?i)(?<=bearer )[\w.~+/=-]{8,}"),
    re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(-----END|\Z)", re.DOTALL),
    re.compile(
        rb"\A[\w+/=\s]+(?=-----END [A-Z ]*PRIVATE KEY)", re.ASCII
    ),  # its beginning is cut off
    # Of a signed URL.
    re.compile(rb"(?i)(?P<before>[?&](?:[\w-]*signature|sig|\w*token)=)[^&\s\"']+"),
)
_LEAST_LENGTH = 8
_HIDDEN = b"***"


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


def without_secrets(text: bytes, environ: Mapping[str, str]) -> bytes:
    """The text without the values of variables that are named like secrets, keys in URLs' user
    parts, signatures and tokens in their queries, bearer tokens and private keys.
    """
    values = {
        value.encode(errors="surrogateescape")
        for name, value in environ.items()
        if _SECRET_NAME.search(name) and len(value) >= _LEAST_LENGTH and not value.startswith("/")
    }
    for value in sorted(values, key=len, reverse=True):
        text = text.replace(value, _HIDDEN)
    for pattern in _SECRETS:
        text = pattern.sub(_hidden, text)
    return text


def _hidden(found: re.Match[bytes]) -> bytes:
    return found.groupdict(b"").get("before", b"") + _HIDDEN
