"""Why a pod ended, where Kubernetes shows it: its termination message."""

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from trainer.environment import LAST_WORDS_VARIABLE

# Kubernetes cuts longer ones.
MOST_BYTES = 4096


def leave(message: str, environ: Mapping[str, str] = os.environ) -> None:
    """Write the final error to the file that the environment names, if it names one.

    A file that cannot be written changes nothing: standard error has the message, too.
    """
    path = environ.get(LAST_WORDS_VARIABLE)
    if path and message:
        text = message.encode(errors="replace")[:MOST_BYTES].decode(errors="ignore")
        with suppress(OSError):
            Path(path).write_text(text, encoding="utf-8")
