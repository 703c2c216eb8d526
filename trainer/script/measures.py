"""`trainer.evaluate` and `trainer.predict`: as Keras' methods of these names."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import keras
import numpy as np
import tensorflow as tf

from trainer.backends import this_backend
from trainer.callbacks.assemble import here
from trainer.data.pipeline import Place
from trainer.errors import ConfigError
from trainer.job import Assembled, Job
from trainer.log import as_fields
from trainer.models.build import build_optimizers
from trainer.script.fit_data import VALIDATION, FitData, feed
from trainer.script.processes import current
from trainer.script.session import Session
from trainer.worker import check_model, equip

_P = ParamSpec("_P")
_R = TypeVar("_R")


def _working(function: Callable[_P, _R]) -> Callable[_P, _R]:
    @wraps(function)
    def works(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        with current().working():
            return function(*args, **kwargs)

    return works


@_working
def evaluate(
    model: Any, x: Any = None, y: Any = None, batch_size: int | None = None,
    verbose: str | int = "auto", sample_weight: Any = None, steps: int | None = None,
    callbacks: Sequence[Any] | None = None, return_dict: bool = False,
) -> Any:  # fmt: skip
    """Measure `model` as `model.evaluate` does, each worker on its share of the records.

    Returns the loss, or a list of it and the metrics, or with `return_dict` all by name.
    """
    session = current()
    fed = feed(
        (x, y, sample_weight), batch_size=batch_size, code="x of trainer.evaluate", steps=steps,
        on_read=session.job.on_progress,
    )  # fmt: skip
    check_model(model, session.job.config)
    job = as_loud_as(session.job, verbose)
    data = FitData(fed, None, job.config.train.threads)
    assembled = assemble(session, job, data, model)
    own = here(flat(callbacks), writes=session.place.is_chief)
    driven = keras.callbacks.CallbackList(own, model=model)
    with job.goodput.cause("validation"):
        logs = assembled.evaluator.evaluate(VALIDATION, callbacks=driven, between=job.on_progress)
    job.log.info("evaluate", **as_fields(logs))
    if return_dict:
        return logs
    values = [logs[name] for name in model.get_metrics_result() if name in logs]
    return values[0] if len(values) == 1 else values


@_working
def predict(
    model: Any, x: Any, batch_size: int | None = None, verbose: str | int = "auto",  # noqa: ARG001
    steps: int | None = None, callbacks: Sequence[Any] | None = None,
) -> Any:  # fmt: skip
    """The model's outputs for all records, as `model.predict`: numpy arrays [n, ...].

    Each worker computes all of them, so that each has them.
    """
    session = current()
    job = session.job
    if callbacks:
        raise ConfigError("trainer.predict drives no callbacks: leave them out")
    fed = feed(
        (x, None, None), batch_size=batch_size, code="x of trainer.predict", steps=steps,
        on_read=job.on_progress,
    )  # fmt: skip
    outputs = this_backend().make_predict(model)
    pipeline = fed.make(Place(), job.config.train.threads, 1)
    found = []
    with job.goodput.cause("validation"):
        try:
            for examples, _ in pipeline.dataset(num_passes=1):
                features, _, _ = keras.utils.unpack_x_y_sample_weight(examples)
                found.append(tf.nest.map_structure(np.asarray, outputs(features)))
                job.on_progress()
        except tf.errors.OpError as error:
            raise pipeline.explain(error) from error
    return tf.nest.map_structure(lambda *parts: np.concatenate(parts), *found)


def assemble(session: Session, job: Job, data: FitData, model: Any) -> Assembled:
    """The script's model, with all its variables, and what saves, evaluates and agrees."""
    with session.strategy.scope():
        build_optimizers(model, session.strategy, data.fed.sample)
    return equip(job, session.strategy, session.place, data, data.fed.sample, model)


def flat(callbacks: Any) -> list[Any]:
    """Callbacks as Keras takes them: one alone, a list, or a `CallbackList`."""
    if isinstance(callbacks, keras.callbacks.CallbackList):
        of_keras = (keras.callbacks.History, keras.callbacks.ProgbarLogger)
        return [one for one in callbacks.callbacks if not isinstance(one, of_keras)]
    return list(keras.tree.flatten(callbacks or ()))


def as_loud_as(job: Job, verbose: str | int) -> Job:
    """The job with what `verbose` asks for: 0 for warnings alone, 2 for no bar."""
    if verbose == 0:
        return replace(job, console=None, log=_Quiet(job.log))
    return replace(job, console=None) if verbose == 2 else job


class _Quiet:
    """A log of warnings and errors alone."""

    def __init__(self, log: Any) -> None:
        self._log = log

    def info(self, *_args: Any, **_fields: Any) -> None:
        """Not said."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)
