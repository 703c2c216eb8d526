"""Every variable of a model, created before anything is restored into it."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from trainer.backends import this_backend
from trainer.models.replicas import local_values


def build(model: Any, strategy: Any, sample: Any) -> None:
    """Create every variable: one eager forward pass and metrics on a sample, then reset.

    Stock train_steps cannot create metrics under `strategy.run`, and a restore needs all
    variables to be there. Seed generators are put back: building must not use up randomness.
    """
    backend = this_backend()
    with strategy.scope():
        seeds = [v for v in model.non_trainable_variables if _is_seed(v)]
        values = [np.array(backend.read(local_values(seed)[0])) for seed in seeds]
        with _unwarned():
            backend.first_pass(model, strategy, backend.as_data(sample))
        model.optimizer.build(model.trainable_variables)
        for variable, value in zip(seeds, values, strict=True):
            variable.assign(value)
        model.reset_metrics()


@contextmanager
def _unwarned() -> Iterator[None]:
    """Without TensorFlow's word that eager passes are slow: this is the only one."""
    logger = logging.getLogger("tensorflow")

    def is_other(record: logging.LogRecord) -> bool:
        return "eagerly has significant overhead" not in str(record.msg)

    logger.addFilter(is_other)
    try:
        yield
    finally:
        logger.removeFilter(is_other)


def _is_seed(variable: Any) -> bool:
    return "seed_generator_state" in variable.path
