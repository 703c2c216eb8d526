"""What makes a step on several replicas equal to the same step on one.

Keras divides each replica's mean loss by the number of replicas and sums the gradients. That
is the mean over all records only while every replica has equally many; in an epoch's last
step it is not so. Weighing a replica's loss by `replicas x its records / records of all` makes
it so again: in `scale_loss`, which Keras' train_step and ours call, or else in `apply`, where
all train_steps meet. Clipping and batch normalization look at the records of all replicas.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras
import tensorflow as tf

from trainer.errors import ConfigError

# Each replica is traced on a thread of its own, and they take turns at every reduction.
_replica = threading.local()


@contextmanager
def weighted(weight: Any) -> Iterator[None]:
    """What is traced inside is one replica's step of that weight, a float32 scalar tensor."""
    _replica.weight, _replica.is_loss_scaled = weight, False
    try:
        yield
    finally:
        _replica.weight = None


class _Weighted:
    """Mixed into an optimizer's class: honours `weighted`."""

    def scale_loss(self, loss: Any) -> Any:
        # Weights of gradients would come too late for synchronized layers, whose gradients mix
        # the losses of all replicas.
        weight = getattr(_replica, "weight", None)
        if weight is not None:
            _replica.is_loss_scaled = True
            loss = loss * tf.cast(weight, loss.dtype)
        return super().scale_loss(loss)  # type: ignore[misc]

    def apply(self, grads: Any, trainable_variables: Any = None) -> Any:
        weight = getattr(_replica, "weight", None)
        if weight is not None and not _replica.is_loss_scaled:
            grads = [g if g is None else g * tf.cast(weight, g.dtype) for g in grads]
        return super().apply(grads, trainable_variables)  # type: ignore[misc]

    # Not public, but Keras has no other place between a replica's gradients and their use.
    def _clip_gradients(self, grads: Any) -> Any:
        context = tf.distribute.get_replica_context()
        limits = (self.clipnorm, self.global_clipnorm, self.clipvalue)  # type: ignore[attr-defined]
        if context is None or context.num_replicas_in_sync == 1 or not any(limits):
            return super()._clip_gradients(grads)  # type: ignore[misc]
        # Keras would clip each replica's gradients and then sum: another step than one device's.
        dense = [tf.convert_to_tensor(gradient) for gradient in grads]
        clipped = super()._clip_gradients(  # type: ignore[misc]
            context.all_reduce(tf.distribute.ReduceOp.SUM, dense)
        )
        return [gradient / context.num_replicas_in_sync for gradient in clipped]


def prepare_replicas(model: Any) -> None:
    """Make steps of `model` on several replicas those of one; before they are traced.

    Raises ConfigError for an optimizer with gradient_accumulation_steps, which fails there.
    """
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.synchronized = True
    optimizer = model.optimizer
    if optimizer is None:
        return
    if optimizer.gradient_accumulation_steps:
        raise ConfigError(
            f"gradient_accumulation_steps={optimizer.gradient_accumulation_steps} of the optimizer "
            "does not work on several replicas: leave it out and use a larger data.batch_size, or "
            "set cluster.replicas=1"
        )
    if not isinstance(optimizer, _Weighted):
        # The object stays the same (models and callbacks hold it), only its class is extended.
        cls = type(optimizer)
        members = {"__module__": cls.__module__, "__qualname__": cls.__qualname__}
        optimizer.__class__ = type(cls.__name__, (_Weighted, cls), members)


def local_values(variable: Any) -> list[tf.Variable]:
    """The copies that one variable has on this worker's replicas, in replica order.

    One entry for a plain variable and for a mirrored one (its copies are equal); one a
    replica for a variable that replicas update on their own, as metrics do.
    """
    value = variable.value if isinstance(variable, keras.Variable) else variable
    copies = getattr(value, "values", None)
    if copies is None:
        return [value]
    is_mirrored = "OnRead" not in type(value).__name__
    return [copies[0]] if is_mirrored else list(copies)


def assign_everywhere(variable: Any, arrays: list[Any]) -> None:
    """Put back what `local_values` gave, also at another number of replicas.

    Sums of several replicas go to the first one: their total is what counts, and reading them
    back through a mirrored value rounds.
    """
    copies = local_values(variable)
    if len(copies) == 1 and len(arrays) == 1:
        variable.assign(arrays[0])
        return
    if len(copies) != len(arrays):
        total = arrays[0]
        for array in arrays[1:]:
            total = total + array
        arrays = [total] + [0 * total] * (len(copies) - 1)
    for copy, array in zip(copies, arrays, strict=True):
        copy.assign(array)
