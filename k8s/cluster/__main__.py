"""python -m k8s.cluster up | down | load ARCHIVE: `make cluster-up`, `make cluster-down`."""

import sys
from collections.abc import Callable

from k8s.cluster.cluster import run
from k8s.cluster.lifecycle import down, load, up
from k8s.cluster.places import ClusterError, default_place

# The last is what the cluster's first process does: `up` starts it.
COMMANDS: dict[str, Callable[..., None]] = {"up": up, "down": down, "load": load, "inside": run}


def main(arguments: list[str]) -> int:
    """Run the command; 1 with a message where it could not."""
    if not arguments or arguments[0] not in COMMANDS:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        COMMANDS[arguments[0]](default_place(), *arguments[1:])
    except ClusterError as error:
        print(f"cluster: {error}", file=sys.stderr, flush=True)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
