"""A Keras model whose training and test steps are ours, with and without `compile`.

After `compile(...)` it trains like any Keras model. Without it, `equip(...)` hands over the
parts themselves: an optimizer, a loss and metric objects, as a hand-written loop would hold
them. Either way the steps below run under `tf.distribute`: the reported loss is the mean over
the records of all replicas. On other backends than TensorFlow, Keras' own steps do the same.
"""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable("trainer")
class TrainStepModel(keras.Model):
    """`keras.Model` with an explicit `train_step` and `test_step`.

    Data are (x, y) or (x, y, sample_weight), each batched along its first axis. A `train_step`
    of your own must call `optimizer.scale_loss`: float16 needs it, and without it several replicas
    with (synchronized) batch normalization differ from one in an epoch's smaller last step.
    """

    _parts: tuple[Any, list[Any]] | None = None

    def equip(self, *, optimizer: Any, loss: Any, metrics: Sequence[Any] = ()) -> None:
        """Train without `compile`: `loss` is a keras.losses.Loss, `metrics` are objects."""
        is_scaled = isinstance(optimizer, keras.optimizers.LossScaleOptimizer)
        if self.dtype_policy.name == "mixed_float16" and not is_scaled:  # as compile does it
            optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
        if keras.backend.backend() != "tensorflow":
            self.compile(optimizer, loss, weighted_metrics=list(metrics))
            return
        self.optimizer, self.loss = optimizer, loss
        self.stop_training = False  # as compile sets it, for callbacks
        self._parts = (loss, [keras.metrics.Mean(name="loss"), *metrics])

    @property
    def metrics(self) -> list[Any]:
        """The mean loss and then the other metrics: reset each epoch, saved in checkpoints."""
        return list(super().metrics) if self._parts is None else self._parts[1]

    def train_step(self, data: Any) -> dict[str, Any]:
        """One update on one replica's share of a batch; returns the metrics so far."""
        x, y, weight = keras.utils.unpack_x_y_sample_weight(data)
        with tf.GradientTape() as tape:
            predicted = self(x, training=True)
            loss = self.compute_loss(x, y, predicted, weight, training=True)
            scaled = self.optimizer.scale_loss(loss)
        variables = self.trainable_variables
        self.optimizer.apply(tape.gradient(scaled, variables), variables)
        return self._report(x, y, predicted, weight, loss)

    def test_step(self, data: Any) -> dict[str, Any]:
        """Metrics of one replica's share of a batch; changes no weight."""
        x, y, weight = keras.utils.unpack_x_y_sample_weight(data)
        predicted = self(x, training=False)
        loss = self.compute_loss(x, y, predicted, weight, training=False)
        return self._report(x, y, predicted, weight, loss)

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        """The loss of one replica, a scalar already divided by the number of replicas.

        The optimizer sums the replicas' gradients. Keras divides its losses by the number of
        replicas; the layers' own (regularizers) are divided here, or count once a replica.
        """
        if self._parts is None:
            return super().compute_loss(x, y, y_pred, sample_weight, training=training)
        main = self._parts[0](y, y_pred, sample_weight=sample_weight)
        return main + sum(self.losses) / _num_replicas() if self.losses else main

    def compute_metrics(
        self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None
    ) -> dict[str, Any]:
        """Update the metrics with one batch; returns all results by name."""
        if self._parts is None:
            return dict(super().compute_metrics(x, y, y_pred, sample_weight))
        for metric in self.metrics[1:]:
            metric.update_state(y, y_pred, sample_weight=sample_weight)
        return dict(self.get_metrics_result())

    def _report(self, x: Any, y: Any, predicted: Any, weight: Any, loss: Any) -> dict[str, Any]:
        records = tf.shape(tf.nest.flatten(x)[0])[0]
        self.metrics[0].update_state(loss * _num_replicas(), sample_weight=records)
        return self.compute_metrics(x, y, predicted, weight)


if keras.backend.backend() != "tensorflow":
    del TrainStepModel.train_step, TrainStepModel.test_step  # they are made of a tape


def _num_replicas() -> int:
    return int(tf.distribute.get_strategy().num_replicas_in_sync)
