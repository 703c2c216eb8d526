"""Processes, network and mounts of the cluster's own, all of which end with one process.

That process is the first of a namespace: whatever ends it, a kill or a failure, the kernel kills
all others in it, and their mounts, bridges and firewall rules are gone with the last of them.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from k8s.cluster.places import ETC, HOST_ADDRESS, NODE_ADDRESS, PRIVATE, ClusterError, Place

WIRE = "trainer-host"
_INNER_WIRE = "node0"
END_SECONDS = 60
# What the kubelet would set for the whole machine: it is shown files that say it is so already.
TUNABLES = {
    "vm/overcommit_memory": "1",
    "vm/panic_on_oom": "0",
    "kernel/panic": "10",
    "kernel/panic_on_oops": "1",
    "kernel/keys/root_maxkeys": "1000000",
    "kernel/keys/root_maxbytes": "25000000",
}


# Outside


def start(place: Place, *, path: str) -> subprocess.Popen[bytes]:
    """Start `inside` as the first process of a sandbox, and lay a wire to it."""
    command = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    with place.story.open("wb") as story:
        process = subprocess.Popen(
            [*command, sys.executable, "-m", "k8s.cluster", "inside"],
            stdin=subprocess.PIPE, stdout=story, stderr=story, start_new_session=True,
            env=os.environ | {"PATH": path}, cwd=Path(__file__).parents[2],
        )  # fmt: skip
    first = _child(process)
    record(place, [process.pid, first])
    peer = ("peer", "name", _INNER_WIRE, "netns", str(first))
    _run("ip", "link", "add", WIRE, "type", "veth", *peer)
    _run("ip", "address", "add", f"{HOST_ADDRESS}/30", "dev", WIRE)
    _run("ip", "link", "set", WIRE, "up")
    assert process.stdin is not None
    process.stdin.close()
    return process


def record(place: Place, processes: list[int]) -> None:
    """Write down which processes the cluster is, the first one inside last."""
    place.process.write_text(" ".join(f"{pid} {_started(pid) or 0}" for pid in processes))


def running(place: Place) -> int | None:
    """The sandbox's first process, or None."""
    processes = _recorded(place)
    return processes[-1] if processes else None


def end(place: Place) -> None:
    """Kill it, and with it all that is inside; nothing is left of it then."""
    processes = _recorded(place)
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
    deadline = time.monotonic() + END_SECONDS
    while _recorded(place):
        if time.monotonic() > deadline:
            raise ClusterError(f"processes {processes} were killed and do not end: see ps")
        time.sleep(0.05)  # the kernel tells only parents of an end, and we are not theirs
    # The wire is gone with its other end, unless that end was never laid.
    subprocess.run(["ip", "link", "delete", WIRE], capture_output=True, timeout=60, check=False)


def enter(first: int, *command: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a command inside."""
    nsenter = ["nsenter", f"--target={first}", "--net", "--mount", "--pid", "--"]
    return subprocess.run(
        [*nsenter, *command], capture_output=True, text=True, timeout=600, check=False
    )


def _child(process: subprocess.Popen[bytes]) -> int:
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    deadline = time.monotonic() + END_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        found = children.read_text().split()
        if found:
            return int(found[0])
        time.sleep(0.01)
    raise ClusterError("no namespaces can be made here: is this a container without rights?")


def _recorded(place: Place) -> list[int]:
    """The processes that `start` wrote down and that still are the same."""
    try:
        words = [int(word) for word in place.process.read_text().split()]
    except FileNotFoundError:
        return []
    return [
        pid for pid, since in zip(words[::2], words[1::2], strict=True) if _started(pid) == since
    ]


def _started(pid: int) -> int | None:
    """When a process began; another process that has got its number began at another time."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in "ZX" else int(fields[19])


# Inside


def furnish(place: Place) -> None:
    """Give the parts folders of their own where they look for them, and an address."""
    sys.stdin.read()  # until the wire is laid
    _run("mount", "--make-rshared", "/")
    for folder in PRIVATE:
        own = place.logs if folder == "/var/log" else place.state / folder.lstrip("/")
        own.mkdir(parents=True, exist_ok=True)
        _run("mount", "--bind", str(own), folder)
    _run("mount", "-t", "tmpfs", "-o", "mode=755", "run", "/run")
    ETC.mkdir()
    for name, value in TUNABLES.items():
        shown = ETC / name.replace("/", "-")
        shown.write_text(value)
        _run("mount", "--bind", str(shown), f"/proc/sys/{name}")
    _connect()


def _connect() -> None:
    _run("ip", "link", "set", "lo", "up")
    _run("ip", "address", "add", f"{NODE_ADDRESS}/30", "dev", _INNER_WIRE)
    _run("ip", "link", "set", _INNER_WIRE, "up")
    _run("ip", "route", "add", "default", "via", HOST_ADDRESS)
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")


def _run(*command: str) -> None:
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    if result.returncode:
        raise ClusterError(f"{' '.join(command)}: {result.stderr.strip()}")
