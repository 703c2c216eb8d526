"""Memory: what a kill tells of it, and how an agent keeps little."""

import ctypes
import gc
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")
# Of cgroup v2, then of v1.
_LIMITS = ("memory.max", "memory/memory.limit_in_bytes")
_NO_LIMIT_BYTES = 1 << 60


def killed_by(root: Path = _CGROUP) -> str:
    """What to say of a worker that SIGKILL ended: with the container's memory limit, if any."""
    limit = memory_limit(root)
    if limit is None:
        return "killed (SIGKILL), as the kernel does when memory runs out"
    return (
        f"killed (SIGKILL), as the kernel does when the container's {limit / 2**20:.0f} MiB of "
        "memory run out"
    )


def give_back() -> None:
    """Return what imports needed for a while to the system: the agent stays for days."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's alone
    if trim is not None:
        trim(0)


def memory_limit(root: Path = _CGROUP) -> int | None:
    """The memory limit of this process's container in bytes; None where there is none."""
    for name in _LIMITS:
        try:
            text = (root / name).read_text(encoding="ascii").strip()
        except OSError:
            continue
        if text.isdigit() and int(text) < _NO_LIMIT_BYTES:
            return int(text)
    return None
