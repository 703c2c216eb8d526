"""Devices, threads and seeds of this process, and the `tf.distribute` strategy over them."""

import ctypes
import faulthandler
import socket
import time
from collections import Counter, defaultdict
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import keras
import tensorflow as tf

from trainer.backend import TENSORFLOW
from trainer.backends import this_backend
from trainer.cluster import ClusterInfo
from trainer.config import RunConfig
from trainer.config.models import TrainConfig
from trainer.errors import ConfigError, TrainerError
from trainer.gathering.messages import name_indices

_START_SECONDS = 60.0
_LOOK_SECONDS = 0.01
_ALONE = ClusterInfo()
# Parameters of glibc's mallopt(3), and what they are set to. The second is the most that it takes.
_MALLOPT = {"M_TRIM_THRESHOLD": (-1, 128 << 20), "M_MMAP_THRESHOLD": (-3, 32 << 20)}


def prepare_process(config: RunConfig) -> list[str]:
    """Set up what computes, once, before its first operation; returns the devices to train on.

    Raises ConfigError when there are fewer devices than asked.
    """
    keep_freed_memory()
    devices = this_backend().prepare(config)
    seed_process(config.train)
    return devices


def keep_freed_memory() -> None:
    """Let this process use again what it freed; glibc's malloc alone can be told so.

    Records come and go by the megabyte. By default each goes back to the system and comes as pages
    that the kernel clears first, which takes as long as to read them.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", lambda *_: 0)
    for parameter, value in _MALLOPT.values():
        mallopt(parameter, value)


def seed_process(train: TrainConfig) -> None:
    """Give every generator of the process its start, and ask for repeatable operations."""
    # Names of layers count up in a process: a second model would get other array names.
    # It also forgets the dtype policy, which therefore comes after it.
    keras.utils.clear_session()
    keras.config.set_dtype_policy(train.precision)
    keras.utils.set_random_seed(train.seed)
    if train.deterministic:
        compute_as_written()


def compute_as_written() -> None:
    """Let the same graph compute the same bits in every process.

    TensorFlow's determinism is that of its operations alone: Grappler still makes one sum of
    a + (b + c), in an order that differs from process to process (docs/decisions/0025).
    """
    tf.config.experimental.enable_op_determinism()
    tf.config.optimizer.set_experimental_options({"arithmetic_optimization": False})


def make_strategy(
    devices: list[str], cluster: ClusterInfo = _ALONE, communication: str = "auto"
) -> Any:
    """OneDeviceStrategy on one device, MirroredStrategy on several, and over workers its like.

    On other backends than TensorFlow the one that does nothing.

    Raises ConfigError when workers of a group have different devices, or more than TensorFlow uses,
    and TrainerError when worker 0 of several is not there.
    """
    if keras.backend.backend() != TENSORFLOW:
        return tf.distribute.get_strategy()
    num_workers = cluster.num_workers
    if num_workers == 1 and len(devices) == 1:
        return tf.distribute.OneDeviceStrategy(devices[0])
    if num_workers == 1:
        return tf.distribute.MirroredStrategy(devices)
    wait_for_first(cluster)
    strategy = _of_group(communication)
    check_alike(device.name for device in tf.config.list_logical_devices())
    if strategy.num_replicas_in_sync != num_workers * len(devices):
        raise ConfigError(
            f"cluster.replicas is {len(devices)}, but on CPUs a worker of a group has one replica: "
            f"leave the key at auto, and start more workers than {num_workers} instead"
        )
    return strategy


def wait_for_first(cluster: ClusterInfo, seconds: float = _START_SECONDS) -> None:
    """Until worker 0 listens. TensorFlow waits a whole second after each refused connection."""
    if cluster.worker == 0 or cluster.addresses is None:
        return
    host, _, port = cluster.addresses[0].rpartition(":")
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        with suppress(OSError), socket.create_connection((host.strip("[]"), int(port)), timeout=1):
            return
        time.sleep(_LOOK_SECONDS)
    raise TrainerError(
        f"worker 0 did not listen at {cluster.addresses[0]} within {seconds:g} s: see what it "
        "says, and whether this worker may reach that port"
    )


def check_alike(devices: Iterable[str]) -> None:
    """ConfigError unless all workers of a group have as many devices of the same kind.

    devices: TensorFlow's names of those of all workers. It would break off in the first sum over
    them, and name no reason.
    """
    by_worker: dict[tuple[str, int], Counter[str]] = defaultdict(Counter)
    for spec in map(tf.DeviceSpec.from_string, devices):
        by_worker[spec.job, spec.task][spec.device_type] += 1
    workers: dict[str, list[int]] = defaultdict(list)
    # Jobs by their names, too: a chief comes before the workers.
    for worker, (_, counts) in enumerate(sorted(by_worker.items())):
        kind = "GPU" if counts["GPU"] else "CPU"
        workers[f"{counts[kind]} {kind}"].append(worker)
    if len(workers) > 1:
        found = "; ".join(f"{what}: worker {name_indices(at)}" for what, at in workers.items())
        raise ConfigError(
            f"workers of the group see different devices ({found}): give all pods the same "
            "nvidia.com/gpu limit and driver, or set cluster.device=cpu"
        )


def _of_group(communication: str) -> Any:
    """MultiWorkerMirroredStrategy, which TF_CONFIG tells of the group.

    Its constructor waits for all workers without bound and holds the interpreter's lock meanwhile:
    no thread and no signal handler of Python could end it.
    """
    faulthandler.dump_traceback_later(_START_SECONDS, exit=True)
    try:
        options = tf.distribute.experimental.CommunicationOptions(
            implementation=tf.distribute.experimental.CommunicationImplementation(
                communication.upper()
            )
        )
        return tf.distribute.MultiWorkerMirroredStrategy(communication_options=options)
    finally:
        faulthandler.cancel_dump_traceback_later()
