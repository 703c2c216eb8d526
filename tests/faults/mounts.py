"""File systems of a child process's own: small or read-only ones, unseen by others."""

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
