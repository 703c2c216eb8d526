"""Which worker this process is, and of how many; read from an environment mapping.

A pure function of its argument. What says it, in this order:

    TF_CONFIG               TFJob, Volcano, Vertex AI and the like; an agent, for its worker
    TRAINER_NUM_WORKERS     this project's chart, with JOB_COMPLETION_INDEX of an Indexed Job,
                            and `--workers N`, with TRAINER_WORKER_INDEX
    nothing                 one worker
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trainer.errors import ConfigError

MOST_WORKERS = 4096


@dataclass(frozen=True)
class ClusterInfo:
    """This worker's number, how many there are, and where they are.

    leader: host, or host:port, of the agent of worker 0; None where there is one worker.
    addresses: host:port of each worker for TensorFlow, where a launcher has decided them.
    """

    worker: int = 0
    num_workers: int = 1
    leader: str | None = None
    addresses: tuple[str, ...] | None = None


def read_cluster(environ: Mapping[str, str]) -> ClusterInfo:
    """The cluster that the environment describes, or one worker.

    Raises ConfigError when a variable contradicts itself or another one.
    """
    if environ.get("TF_CONFIG"):
        return _from_tf_config(environ["TF_CONFIG"])
    if "TRAINER_NUM_WORKERS" not in environ:
        return ClusterInfo()
    num_workers = _number(environ, "TRAINER_NUM_WORKERS", 1, MOST_WORKERS)
    if num_workers == 1:
        return ClusterInfo()
    name = "TRAINER_WORKER_INDEX"
    if name not in environ and "JOB_COMPLETION_INDEX" in environ:
        name = "JOB_COMPLETION_INDEX"
    worker = _number(environ, name, 0, num_workers - 1)
    leader = environ.get("TRAINER_LEADER")
    if not leader:
        raise ConfigError(
            f"TRAINER_NUM_WORKERS is {num_workers}, but TRAINER_LEADER is not set: name the host "
            "of worker 0, as in TRAINER_LEADER=demo-0.demo"
        )
    return ClusterInfo(worker, num_workers, leader)


def tf_config(addresses: tuple[str, ...], worker: int) -> str:
    """TF_CONFIG of one worker of a group."""
    cluster = {"worker": list(addresses)}
    return json.dumps({"cluster": cluster, "task": {"type": "worker", "index": worker}})


def _from_tf_config(text: str) -> ClusterInfo:
    """https://www.tensorflow.org/guide/distributed_training#setting_up_the_tf_config"""
    try:
        tree = json.loads(text)
        cluster = {kind: list(tree.get("cluster", {}).get(kind, [])) for kind in _kinds(tree)}
        task = tree.get("task", {})
        kind, index = task.get("type", "worker"), task.get("index", 0)
    except (ValueError, AttributeError, TypeError) as error:
        raise ConfigError(f"TF_CONFIG is not a JSON object with cluster.worker: {error}") from error
    if unknown := [name for name, found in cluster.items() if found and name not in _TRAINING]:
        raise ConfigError(
            f"TF_CONFIG has tasks of type {unknown[0]}: the trainer knows workers and a chief alone"
        )
    # A chief is a worker, too, and the first.
    tasks = [(name, at) for name in _TRAINING for at in range(len(cluster.get(name, [])))]
    addresses = tuple(str(found) for name in _TRAINING for found in cluster.get(name, []))
    if len(addresses) < 2:
        return ClusterInfo()
    if bad := [address for address in addresses if not _is_address(address)]:
        raise ConfigError(f"TF_CONFIG names {bad[0]!r}: write each worker as host:port")
    if (kind, index) not in tasks:
        raise ConfigError(
            f"TF_CONFIG says task {kind} {index}, which is none of the {len(tasks)} of its cluster"
        )
    worker = tasks.index((kind, index))
    return ClusterInfo(worker, len(tasks), addresses[0].rpartition(":")[0], addresses)


_TRAINING = ("chief", "worker")


def _kinds(tree: Any) -> list[str]:
    return list(tree.get("cluster", {}))


def _is_address(text: str) -> bool:
    host, _, port = text.rpartition(":")
    return bool(host) and port.isdigit() and 0 < int(port) < 65536


def _number(environ: Mapping[str, str], name: str, low: int, high: int) -> int:
    text = environ.get(name)
    if text is None:
        raise ConfigError(
            "TRAINER_NUM_WORKERS is set, but neither TRAINER_WORKER_INDEX nor JOB_COMPLETION_INDEX "
            "says which worker this is"
        )
    if not (text.isascii() and text.isdigit() and low <= int(text) <= high):
        raise ConfigError(f"{name} is {text!r}: use a number from {low} to {high}")
    return int(text)
