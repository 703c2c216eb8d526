"""A child process's own surroundings: small or read-only file systems, fewer rights."""

import os
import shutil
import subprocess

import pytest


def private_mount(options: str) -> tuple[str, ...]:
    """A command that mounts a tmpfs on its third argument, unseen by others, and goes on."""
    script = f'mount -t tmpfs -o {options} tmpfs "$4" && exec "$@"'
    return ("unshare", "-m", "sh", "-c", script, "sh")


needs_mounts = pytest.mark.skipif(
    os.geteuid() != 0
    or shutil.which("unshare") is None
    or subprocess.run(["unshare", "-m", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]).returncode != 0,
    reason="needs the right to mount",
)

# Root may write everywhere; without its capabilities it is bound by a folder's mode.
with_plain_rights = () if os.geteuid() else ("setpriv", "--bounding-set=-all", "--inh-caps=-all")
needs_rights = pytest.mark.skipif(
    os.geteuid() == 0 and shutil.which("setpriv") is None, reason="needs setpriv for root"
)
