"""Who holds a lease, and whether that process lives."""

import os
import socket
from collections.abc import Mapping
from pathlib import Path

from trainer.config import Section


class Process(Section):
    """A process that can be looked for on the machine it runs on."""

    host: str
    boot: str
    pid: int
    started: str


class Holder(Section):
    """Who holds a lease: a job of a cluster by its unique id, or else a process by itself."""

    job: str | None = None
    process: Process

    def is_same_job(self, other: "Holder") -> bool:
        """Whether both belong to one job, whose newer pod replaces the older."""
        return self.job is not None and self.job == other.job

    def __str__(self) -> str:
        who = f"process {self.process.pid} on {self.process.host}"
        return who if self.job is None else f"job {self.job} ({who})"


def this_holder(environ: Mapping[str, str] = os.environ) -> Holder:
    """The holder that this process is."""
    pid = os.getpid()
    return Holder(
        job=environ.get("TRAINER_JOB_ID") or None,
        process=Process(host=_host(), boot=_boot(), pid=pid, started=_started(pid) or ""),
    )


def is_alive(theirs: Holder, mine: Holder) -> bool | None:
    """Whether a process of this machine lives; None for a job and for another machine's."""
    process, here = theirs.process, mine.process
    is_here = process.boot and (process.host, process.boot) == (here.host, here.boot)
    if theirs.job is not None or not is_here:
        return None
    return bool(process.started) and _started(process.pid) == process.started


def _host() -> str:
    return socket.gethostname()


def _boot() -> str:
    """This boot of this machine, and in it the space that process numbers belong to."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot}/{Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def _started(pid: int) -> str | None:
    """When a process began, in the kernel's ticks; None when there is none."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    # The name of the program, in parentheses, may hold spaces and parentheses.
    fields = text.rpartition(")")[2].split()
    # A zombie has ended, and only its parent has not looked yet.
    return None if fields[0] in "ZX" else fields[19]
