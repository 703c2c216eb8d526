"""The control groups below which the kubelet puts pods: the one thing a namespace leaves behind."""

import os
import time
from pathlib import Path

from k8s.cluster.places import CGROUP, ClusterError

ROOT = Path("/sys/fs/cgroup")
REMOVE_SECONDS = 30


def groups(root: Path = ROOT) -> list[Path]:
    """Our group: one folder, or with cgroup v1 one in each controller's hierarchy."""
    if (root / "cgroup.controllers").exists():
        return [root / CGROUP]
    return [
        folder / CGROUP for folder in root.iterdir() if folder.is_dir() and not folder.is_symlink()
    ]


def make_groups(root: Path = ROOT) -> None:
    """Make it, with all controllers that there are."""
    control = root / "cgroup.subtree_control"
    if control.exists():
        names = (root / "cgroup.controllers").read_text().split()
        control.write_text(" ".join(f"+{name}" for name in names))
    for group in groups(root):
        group.mkdir(exist_ok=True)


def remove_groups(root: Path = ROOT) -> None:
    """Remove it and all below it, once the last process has left."""
    deadline = time.monotonic() + REMOVE_SECONDS
    for group in groups(root):
        while group.exists():
            try:
                _remove(group)
            except OSError as error:
                if time.monotonic() > deadline:
                    raise ClusterError(f"{group} is still in use: {error}") from error
                time.sleep(0.1)  # the kernel lets go of it some time after its last process


def _remove(group: Path) -> None:
    for folder, _, _ in os.walk(group, topdown=False):
        Path(folder).rmdir()
