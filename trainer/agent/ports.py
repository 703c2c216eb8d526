"""Which TCP ports of this machine are free."""

import random
import socket
import time
from collections.abc import Sequence

_LOOK_SECONDS = 0.1


def is_free(port: int, address: str = "") -> bool:
    """Whether a server may listen there now; an empty address means every interface."""
    with socket.socket() as probe:
        # Connections of the last server may linger; only who listens is in the way.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError:
            return False
    return True


def become_free(port: int, seconds: float) -> bool:
    """Whether it is free now, or within so many seconds."""
    deadline = time.monotonic() + seconds
    while not is_free(port):
        if time.monotonic() > deadline:
            return False
        time.sleep(_LOOK_SECONDS)
    return True


def free_port(ports: Sequence[int], address: str = "") -> int | None:
    """One of these by chance, so that those who look at the same time find different ones."""
    shuffled = random.SystemRandom().sample(ports, len(ports))
    return next((port for port in shuffled if is_free(port, address)), None)
