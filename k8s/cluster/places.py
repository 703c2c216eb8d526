"""Where the cluster is: folders of this machine, and addresses."""

import os
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
CONFIG = HERE / "config"
MODULES = HERE / "go"

# The parts run in a network of their own; this machine is joined to it by two ends of a wire. The
# range is reserved for tests, so that it is nobody's.
HOST_ADDRESS = "198.18.0.1"
NODE_ADDRESS = "198.18.0.2"
API_SERVER = f"https://{NODE_ADDRESS}:6443"
POD_RANGE = "10.244.0.0/24"
SERVICE_RANGE = "10.245.0.0/24"
API_SERVICE = "10.245.0.1"
NODE = "node-1"
CGROUP = "trainer-cluster"

# As the parts see it: a folder in memory that is gone when they are.
ETC = Path("/run/cluster")
PKI = ETC / "pki"
# Where they look for these, and what of this machine they get there instead.
PRIVATE = ("/var/lib", "/var/log")


class ClusterError(Exception):
    """The cluster cannot be started or used; the message says why, and the way out."""


@dataclass(frozen=True)
class Place:
    """The folder of one user's cluster, outside any work tree."""

    root: Path

    @property
    def programs(self) -> Path:
        """What was built: a folder for each module."""
        return self.root / "programs"

    @property
    def state(self) -> Path:
        """What a running cluster writes; it is removed with it."""
        return self.root / "state"

    @property
    def logs(self) -> Path:
        """What each part said; it stays until the next start."""
        return self.root / "logs"

    @property
    def story(self) -> Path:
        """What the start said, line by line."""
        return self.logs / "cluster.log"

    @property
    def process(self) -> Path:
        """Which process is the cluster."""
        return self.state / "process"

    @property
    def kubeconfig(self) -> Path:
        """How to reach it; there once it is ready."""
        return self.state / "kubeconfig"


def default_place() -> Place:
    """The cluster of this user."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Place(Path(cache, "trainer", "cluster"))
