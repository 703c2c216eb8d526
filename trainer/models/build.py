"""Every variable of a model, created before anything is restored into it."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from trainer.backend import TENSORFLOW
from trainer.backends import this_backend
from trainer.models.replicas import local_values, optimizers_of


def build(model: Any, strategy: Any, sample: Any) -> None:
    """Create every variable: one eager forward pass and metrics on a sample, then reset.

    Stock train_steps cannot create metrics under `strategy.run`, and a restore needs all
    variables to be there. Seed generators are put back: building must not use up randomness.
    """
    backend = this_backend()
    with strategy.scope():
        seeds = [v for v in model.non_trainable_variables if _is_seed(v)]
        values = [np.array(backend.read(local_values(seed)[0])) for seed in seeds]
        # A model without `call` is trained by a step of its own, and brings its variables.
        with _unwarned(), suppress(NotImplementedError):
            backend.first_pass(model, strategy, backend.as_data(sample))
        model.optimizer.build(model.trainable_variables)
        for variable, value in zip(seeds, values, strict=True):
            variable.assign(value)
        model.reset_metrics()


def build_optimizers(model: Any, strategy: Any, sample: Any) -> None:
    """Create the variables of optimizers that a model's own train_step calls beside the model's.

    Which of the model's variables each is given is known when the step is traced; Keras would
    create them then, too late to be restored. On TensorFlow, where nothing else is done here.
    """
    unbuilt = [o for o in optimizers_of(model) if not o.built and o is not model.optimizer]
    if not unbuilt or keras.backend.backend() != TENSORFLOW:
        return
    given: list[tuple[Any, Any]] = []

    def note(optimizer: Any, _grads: Any, variables: Any = None) -> None:
        given.append((optimizer, list(variables or model.trainable_variables)))

    for optimizer in unbuilt:
        optimizer.apply = partial(note, optimizer)
    try:
        data = this_backend().as_data(sample)
        step = tf.function(lambda: strategy.run(model.train_step, args=(data,)), autograph=False)
        with _unwarned():
            step.get_concrete_function()
    finally:
        for optimizer in unbuilt:
            del optimizer.apply
    with strategy.scope():
        for optimizer, variables in given:
            if not optimizer.built:
                optimizer.build(variables)


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
