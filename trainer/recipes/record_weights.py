"""What a record weighs in the loss: by its class, and by a number of its own."""

from collections.abc import Sequence
from typing import Any


def check_class_weights(weights: Sequence[float], classes: int) -> None:
    """ValueError unless there is a weight of at least 0 for each class, or none at all."""
    if weights and (len(weights) != classes or min(weights) < 0):
        raise ValueError(f"give {classes} numbers of at least 0, or none")


def weighed(x: Any, y: Any, *, label: Any, class_weights: Sequence[float], own: Any = None) -> Any:
    """(x, y), or (x, y, weight) where a record weighs by its class or `own`, a scalar float32."""
    import tensorflow as tf

    if not class_weights and own is None:
        return x, y
    weight = tf.gather(tf.constant(class_weights), label) if class_weights else tf.constant(1.0)
    return x, y, weight if own is None else weight * own
