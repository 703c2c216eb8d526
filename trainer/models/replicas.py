"""What makes a step on several replicas equal to the same step on one.

Keras divides each replica's mean loss by the number of replicas and sums the gradients. That
is the mean over all records only while every replica has equally many; in an epoch's last
step it is not so. Scaling a replica's gradients by
`replicas x its records / records of all` makes it so again for any train_step.
"""

from typing import Any

import tensorflow as tf


class _ScaledGradients:
    """Mixed into an optimizer's class: multiplies gradients before they are summed."""

    gradient_scale: Any = None

    def apply(self, grads: Any, trainable_variables: Any = None) -> Any:
        scale = self.gradient_scale
        if scale is not None:
            grads = [g if g is None else g * tf.cast(scale, g.dtype) for g in grads]
        return super().apply(grads, trainable_variables)  # type: ignore[misc]


def scale_gradients(optimizer: Any) -> Any:
    """Let `optimizer` honour `gradient_scale`, a scalar tensor set while a step is traced.

    The object stays the same (models and callbacks hold it), only its class is extended:
    `apply` is where Keras' own and users' train_steps meet.
    """
    if not isinstance(optimizer, _ScaledGradients):
        cls = type(optimizer)
        members = {"__module__": cls.__module__, "__qualname__": cls.__qualname__}
        optimizer.__class__ = type(cls.__name__, (_ScaledGradients, cls), members)
    return optimizer


def local_values(variable: Any) -> list[tf.Variable]:
    """The copies that one Keras variable has on this worker's replicas, in replica order.

    One entry for a plain variable and for a mirrored one (its copies are equal); one a
    replica for a variable that replicas update on their own, as metrics do.
    """
    value = variable.value
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
