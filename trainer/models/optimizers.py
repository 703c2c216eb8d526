"""Makes an optimizer right in steps of several replicas, of micro-batches, or of scaled losses.

Keras reduces gradients over replicas deep inside of `apply`, after it has clipped them and has
looked for infinities in them: each replica in its own. Here they are weighed and summed before
anything else sees them, so that all of that is done with the gradients of all records, and every
replica comes to the same decision.
"""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import keras
import tensorflow as tf

from trainer.errors import ConfigError

# Each replica is traced on a thread of its own, and they take turns at every reduction.
_replica = threading.local()

Gradients = list[tuple[Any, Any]]


class ReplicaStep:
    """What one replica's step asks of the optimizers that it calls; while it is traced.

    weight: float32 scalar tensor; None is 1. collected: (gradient, variable) pairs of a step that
    only collects them, and of no other. squares: of the norms of all gradients that were applied.
    """

    def __init__(self, weight: Any, *, collects: bool) -> None:
        self.squares: list[Any] = []
        self.weight = weight
        self.collects = collects
        self.collected: Gradients | None = None
        self.scaled: set[int] = set()  # optimizers that have scaled the loss
        self.measures = False

    @property
    def gradient_norm(self) -> Any:
        """float32 scalar tensor: of what optimizers of this module were given, before clipping."""
        return tf.sqrt(tf.add_n([tf.zeros([]), *self.squares]))

    def measure(self, gradients: Sequence[Any], scale: Any) -> None:
        """Note the gradients of all records, `scale` times as large as they are."""
        present = [tf.cast(tf.convert_to_tensor(g), tf.float32) for g in gradients if g is not None]
        self.squares += [tf.reduce_sum(tf.square(g / scale)) for g in present]

    def collect(self, gradients: Sequence[Any], variables: Sequence[Any]) -> None:
        """Keep the gradients; ConfigError when there are some already."""
        if self.collected is not None:
            raise ConfigError(
                "train.accumulate_steps needs a train_step that applies gradients once, and this "
                "one does so again: set train.accumulate_steps=1"
            )
        self.collected = list(zip(gradients, variables, strict=True))


@contextmanager
def replica_step(
    weight: Any = None, *, collects: bool = False, measures: bool = False
) -> Iterator[ReplicaStep]:
    """What is traced inside is one replica's step, or its part for one micro-batch.

    measures: the norm of its gradients is wanted.
    """
    _replica.step = step = ReplicaStep(weight, collects=collects)
    step.measures = measures
    try:
        yield step
    finally:
        _replica.step = None


def extend_optimizer(optimizer: Any) -> None:
    """Give an optimizer the arithmetic of this module. The object stays the same: models and
    callbacks hold it.
    """
    _extend(optimizer, _Outer)
    if (inner := getattr(optimizer, "inner_optimizer", None)) is not None:
        _extend(inner, _Summed)


def refuse_own_accumulation(optimizer: Any) -> None:
    """ConfigError for gradient_accumulation_steps, whose condition fails inside of a step."""
    steps = getattr(optimizer, "inner_optimizer", optimizer).gradient_accumulation_steps
    if steps:
        raise ConfigError(
            f"gradient_accumulation_steps={steps} of the optimizer works neither on several "
            "replicas nor with train.accumulate_steps: leave it out, and set "
            f"train.accumulate_steps={steps} and data.batch_size to the records of all {steps}"
        )


def _extend(optimizer: Any, mixin: type) -> None:
    cls = type(optimizer)
    if issubclass(cls, mixin):
        return
    if not hasattr(cls, "_all_reduce_sum_gradients"):
        raise ConfigError(
            f"optimizer {cls.__name__} is none of this version of Keras: "
            "set cluster.replicas=1 and train.accumulate_steps=1"
        )
    members = {"__module__": cls.__module__, "__qualname__": cls.__qualname__}
    optimizer.__class__ = type(cls.__name__, (mixin, cls), members)


class _Summed:
    """Mixed into an optimizer's class: it is given gradients that are sums over all replicas."""

    # Neither is public, but Keras has no other place between a replica's gradients and their use.
    def _all_reduce_sum_gradients(self, grads_and_vars: Any) -> Gradients:
        return list(grads_and_vars)

    def _overwrite_model_variables_with_average_value(self, trainable_variables: Any) -> None:
        if tf.distribute.in_cross_replica_context() or not tf.distribute.has_strategy():
            super()._overwrite_model_variables_with_average_value(trainable_variables)  # type: ignore[misc]
            return
        # Keras asks for all copies at once, which is refused inside of a step; they are equal.
        averages = self._model_variables_moving_average  # type: ignore[attr-defined]
        for variable, average in zip(trainable_variables, averages, strict=True):
            if average is not None:
                variable.assign(average)


class _Outer(_Summed):
    """Mixed into the class of an optimizer that a train_step calls: honours `replica_step`."""

    def scale_loss(self, loss: Any) -> Any:
        step = getattr(_replica, "step", None)
        if step is not None:
            step.scaled.add(id(self))
            if step.weight is not None:
                # Weights of gradients would come too late for synchronized layers, whose gradients
                # mix the losses of all replicas.
                loss = loss * tf.cast(step.weight, loss.dtype)
        return super().scale_loss(loss)  # type: ignore[misc]

    def apply(self, grads: Any, trainable_variables: Any = None) -> Any:
        step = getattr(_replica, "step", None)
        grads = list(grads)
        if step is not None and id(self) not in step.scaled:
            _check_scaled(self)
            if step.weight is not None:
                grads = [g if g is None else g * tf.cast(step.weight, g.dtype) for g in grads]
        if step is not None and step.collects:
            if trainable_variables is None:
                trainable_variables = self._trainable_variables  # type: ignore[attr-defined]
            return step.collect(grads, trainable_variables)
        summed = self._summed(grads)
        if step is not None and step.measures:
            scale = getattr(self, "dynamic_scale", 1.0)  # of a LossScaleOptimizer
            step.measure(summed, scale)
        return super().apply(summed, trainable_variables)  # type: ignore[misc]

    def _summed(self, grads: list[Any]) -> list[Any]:
        context = tf.distribute.get_replica_context()
        present = [index for index, gradient in enumerate(grads) if gradient is not None]
        if context is None or context.num_replicas_in_sync == 1 or not present:
            return grads
        inner: Any = getattr(self, "inner_optimizer", self)
        is_clipped = any((inner.clipnorm, inner.global_clipnorm, inner.clipvalue))
        # What an embedding did not look up twice must not be clipped twice. And TensorFlow cannot
        # reduce a tensor that was handed into the step as it is.
        dense = tf.convert_to_tensor if is_clipped else tf.identity
        reduced = context.all_reduce(
            tf.distribute.ReduceOp.SUM, [tf.identity(dense(grads[index])) for index in present]
        )
        summed = list(grads)
        for index, gradient in zip(present, reduced, strict=True):
            summed[index] = gradient
        return summed


def _check_scaled(optimizer: Any) -> None:
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        raise ConfigError(
            "the model's train_step applies gradients of a loss that it has not scaled, as float16 "
            "needs: take the gradients of self.optimizer.scale_loss(loss), or set "
            "train.precision=mixed_bfloat16"
        )
