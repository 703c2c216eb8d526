"""Debian's packages that the cluster needs."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from k8s.cluster.places import ClusterError

# A program that each is there for.
PACKAGES = {
    "conntrack": "conntrack",
    "containerd": "containerd",
    "containernetworking-plugins": "/usr/lib/cni/bridge",
    "etcd-server": "etcd",
    "iproute2": "ip",
    "ipset": "ipset",
    "iptables": "iptables",
    "openssl": "openssl",
    "runc": "runc",
    "util-linux": "unshare",
}
# Debian starts a service as it installs it, unless this file says no.
_POLICY = Path("/usr/sbin/policy-rc.d")


def missing_packages() -> list[str]:
    """The packages whose program is not there."""
    return [package for package, program in PACKAGES.items() if not shutil.which(program)]


def install_packages(say: Callable[[str], None]) -> None:
    """Install what is missing; starts no service."""
    missing = missing_packages()
    if not missing:
        return
    if not shutil.which("apt-get"):
        raise ClusterError(f"install these, by Debian's names: {' '.join(missing)}")
    say(f"install Debian's {', '.join(missing)}")
    ours = not _POLICY.exists()
    if ours:
        _POLICY.write_text("#!/bin/sh\nexit 101\n")
        _POLICY.chmod(0o755)
    try:
        _apt("update", "--quiet")
        _apt("install", "--yes", "--quiet", "--no-install-recommends", *missing)
    finally:
        if ours:
            _POLICY.unlink()


def _apt(*arguments: str) -> None:
    result = subprocess.run(
        ["apt-get", *arguments], env=os.environ | {"DEBIAN_FRONTEND": "noninteractive"},
        capture_output=True, text=True, timeout=900, check=False,
    )  # fmt: skip
    if result.returncode:
        raise ClusterError(f"apt-get {arguments[0]} failed:\n{result.stderr[-2000:]}")
