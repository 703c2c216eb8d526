"""Why a pod ended, where Kubernetes shows it: its termination message."""

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from trainer.environment import LAST_WORDS_VARIABLE

# Kubernetes cuts longer ones.
MOST_BYTES = 4096
# Set by Kubernetes in each container.
_POD_VARIABLE = "KUBERNETES_SERVICE_HOST"


def leave(
    message: str,
    environ: Mapping[str, str] = os.environ,
    pids: tuple[int, int] | None = None,
) -> None:
    """Write the final error to the file that the environment names, if it names one.

    pids: this process's and its parent's. A file that cannot be written changes nothing: standard
    error has the message, too.
    """
    path = environ.get(LAST_WORDS_VARIABLE)
    # What `kubectl exec` starts has the pod's environment, too, and its end is not the pod's. A pod
    # was made for process 1, or for a child of it where that is an init.
    is_typed = _POD_VARIABLE in environ and 1 not in (pids or (os.getpid(), os.getppid()))
    if path and message and not is_typed:
        text = message.encode(errors="replace")[:MOST_BYTES].decode(errors="ignore")
        with suppress(OSError):
            Path(path).write_text(text, encoding="utf-8")
