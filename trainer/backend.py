"""With which of Keras' backends this process computes, and what only TensorFlow's can do.

KERAS_BACKEND says it, and Keras reads it when it is imported; nothing here imports it. On every
backend the data comes from tf.data. What is refused here is refused before any work.
"""

import difflib
import os
from collections.abc import Iterator, Mapping
from importlib.util import find_spec

from trainer.cluster import read_cluster
from trainer.config import RunConfig
from trainer.errors import ConfigError

VARIABLE = "KERAS_BACKEND"
TENSORFLOW = "tensorflow"
# name, which is also that of the module -> what to install
BACKENDS = {
    TENSORFLOW: "trainer-k8s[cpu] or trainer-k8s[gpu]",
    "jax": "trainer-k8s[cpu,jax]",
    "torch": "trainer-k8s[cpu,torch]",
}


def backend_name(environ: Mapping[str, str] = os.environ) -> str:
    """One of BACKENDS; ConfigError for another, and for one whose package is missing.

    The file keras.json in somebody's home folder decides nothing: no pod would have it.
    """
    name = environ.get(VARIABLE) or TENSORFLOW
    if name not in BACKENDS:
        near = difflib.get_close_matches(name, BACKENDS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"use one of {', '.join(BACKENDS)}"
        raise ConfigError(f"{VARIABLE} is {name!r}: {hint}")
    if find_spec(name) is None:
        raise ConfigError(f"{VARIABLE} is {name}, which is not installed: install {BACKENDS[name]}")
    return name


def check_backend(
    config: RunConfig, *, num_workers: int | None = None, environ: Mapping[str, str] = os.environ
) -> None:
    """ConfigError for what the process's backend cannot do of a configuration.

    num_workers: by default as many as the environment says.
    """
    name = backend_name(environ)
    if name == TENSORFLOW:
        return
    workers = read_cluster(environ).num_workers if num_workers is None else num_workers
    problem = next(_problems(config, workers), None)
    if problem is not None:
        what, way_out = problem
        raise ConfigError(f"{what} with {VARIABLE}={name}: {way_out}, or use {VARIABLE}=tensorflow")


def _problems(config: RunConfig, num_workers: int) -> Iterator[tuple[str, str]]:
    """(what does not work, the way out)."""
    train, replicas = config.train, config.cluster.replicas
    if num_workers > 1:
        yield f"{num_workers} workers cannot train together", "start one"
    if replicas != "auto" and replicas > 1:
        yield f"cluster.replicas: {replicas} does not work", "set cluster.replicas=1"
    if train.accumulate_steps > 1:
        yield (
            f"train.accumulate_steps: {train.accumulate_steps} does not work",
            "set train.accumulate_steps=1",
        )
    if train.gradient_norm:
        yield "train.gradient_norm does not work", "leave it out"
    if train.profile is not None:
        yield "train.profile does not work", "leave it out"
    if train.precision == "mixed_float16":
        yield (
            "train.precision: mixed_float16 does not work",
            "set train.precision=mixed_bfloat16",
        )
