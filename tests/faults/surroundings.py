"""A child process's own surroundings: small or read-only file systems, fewer rights."""

import ctypes
import os
import shutil
import subprocess

import pytest


def private_mount(options: str) -> tuple[str, ...]:
    """A command that mounts a tmpfs on its third argument, unseen by others, and goes on."""
    script = f'mount -t tmpfs -o {options} tmpfs "$4" && exec "$@"'
    return ("unshare", "-m", "sh", "-c", script, "sh")


def private_hosts(file: str) -> None:
    """From here on, this process and its children find the hosts of this file, and no others."""
    libc = ctypes.CDLL(None, use_errno=True)
    new_mounts = 0x00020000
    if libc.unshare(new_mounts):
        raise OSError(ctypes.get_errno(), "unshare")
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    subprocess.run(["mount", "--bind", file, "/etc/hosts"], check=True)


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
