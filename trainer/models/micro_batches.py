"""One optimizer step from several micro-batches: their gradients are summed up, then applied.

All that is done for a micro-batch is the model's own train_step, whose optimizer only hands over
its gradients; the sums live inside of the step, so that none is ever saved or lost.
"""

from typing import Any

import tensorflow as tf

from trainer.errors import ConfigError
from trainer.models.optimizers import ReplicaStep, replica_step


class MicroBatches:
    """What one replica does for each of `count` micro-batches of a step, and after the last."""

    def __init__(self, model: Any, count: int) -> None:
        self._model = model
        self.count = count
        self._present: set[int] = set()  # variables that have a gradient

    def rows(self, data: Any, shares: Any, part: Any) -> Any:
        """The examples of micro-batch `part`; rows of `shares` end with their number."""
        sizes = tf.cast(shares[:, 2], tf.int32)
        start = tf.reduce_sum(sizes[:part])

        def cut(tensor: Any) -> Any:
            rows, found = tensor.shape[0], tensor[start : start + sizes[part]]
            if rows is not None:  # then all are always full
                found.set_shape([rows // self.count, *tensor.shape[1:]])
            return found

        return tf.nest.map_structure(cut, data)

    def zeros(self) -> list[Any]:
        """Sums to begin with."""
        return [tf.zeros(v.shape, v.dtype) for v in self._model.trainable_variables]

    def add(self, sums: list[Any], step: ReplicaStep) -> list[Any]:
        """Add what one micro-batch's step has collected."""
        if step.collected is None:
            raise ConfigError(
                "train.accumulate_steps needs a train_step that calls self.optimizer.apply, and "
                "this one does not: set train.accumulate_steps=1"
            )
        index_of = {id(v): index for index, v in enumerate(self._model.trainable_variables)}
        sums = list(sums)
        for gradient, variable in step.collected:
            index = index_of.get(id(variable))
            if index is None:
                raise ConfigError(
                    f"train.accumulate_steps: the gradient of {variable.name} is none of the "
                    "model's trainable variables: set train.accumulate_steps=1"
                )
            if gradient is not None:
                self._present.add(index)
                sums[index] = sums[index] + tf.convert_to_tensor(gradient)
        return sums

    def apply(self, sums: list[Any]) -> None:
        """The step's update, with clipping and all that follows."""
        gradients = [g if i in self._present else None for i, g in enumerate(sums)]
        self._model.optimizer.apply(gradients, self._model.trainable_variables)

    def measured_apply(self, sums: list[Any]) -> Any:
        """The same; returns the norm of the gradients."""
        with replica_step(measures=True) as step:
            step.scaled.add(id(self._model.optimizer))  # for each micro-batch
            self.apply(sums)
        return step.gradient_norm
