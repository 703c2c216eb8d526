"""Which worker this process is, and of how many; read from an environment mapping.

A pure function of its arguments. This version trains on one worker: a launcher that asks for
more is refused instead of training as many separate models.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass

from trainer.errors import ConfigError


@dataclass(frozen=True)
class ClusterInfo:
    """This worker's number and the number of workers of the group."""

    worker: int = 0
    num_workers: int = 1


def read_cluster(environ: Mapping[str, str]) -> ClusterInfo:
    """The cluster that TF_CONFIG describes, or one worker.

    Raises:
        ConfigError: TF_CONFIG is not the JSON that TensorFlow documents, or names more than
            one worker.
    """
    text = environ.get("TF_CONFIG")
    if not text:
        return ClusterInfo()
    try:
        workers = json.loads(text).get("cluster", {}).get("worker", [])
        count = len(workers)
    except (ValueError, AttributeError, TypeError) as error:
        raise ConfigError(f"TF_CONFIG is not a JSON object with cluster.worker: {error}") from error
    if count > 1:
        raise ConfigError(
            f"TF_CONFIG names {count} workers, but this version trains on one: unset TF_CONFIG"
        )
    return ClusterInfo()
