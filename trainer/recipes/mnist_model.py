"""The network of recipe `mnist`, a metric of its own, and its training step in three styles."""

from typing import Any

import keras
import tensorflow as tf
from keras import layers, ops

from trainer.recipes.mnist import MnistParams


@keras.saving.register_keras_serializable("trainer")
class RootMeanSquaredError(keras.metrics.Metric):
    """Distance of predicted probabilities from one-hot targets, made of the classes here.

    The square root is taken of the mean over all records since the last reset, not of each batch.
    """

    def __init__(self, name: str = "rmse", **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)
        self.squares = self.add_weight(shape=(), initializer="zeros", name="squares")
        self.records = self.add_weight(shape=(), initializer="zeros", name="records")

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """int [n] or [n, 1], probabilities [n, classes], and weights [n]."""
        wanted = ops.one_hot(ops.reshape(y_true, (-1,)), y_pred.shape[-1], dtype=y_pred.dtype)
        squares = ops.sum(ops.square(wanted - y_pred), axis=-1)
        weights = ops.ones_like(squares)
        if sample_weight is not None:
            weights = ops.reshape(ops.cast(sample_weight, squares.dtype), (-1,))
        self.squares.assign_add(ops.sum(squares * weights))
        self.records.assign_add(ops.sum(weights))

    def result(self) -> Any:
        """A scalar, float32; 0 before the first record."""
        return ops.sqrt(ops.divide_no_nan(self.squares, self.records))

    def reset_state(self) -> None:
        """Forget all records, as at the begin of an epoch."""
        self.squares.assign(0.0)
        self.records.assign(0.0)


@keras.saving.register_keras_serializable("trainer")
class OwnLossModel(keras.Model):
    """Its loss, its mean and its metrics are objects that it holds; only the optimizer is compiled.

    `metrics` names them, so that they start anew in each epoch and are saved in checkpoints.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.loss_of = keras.losses.SparseCategoricalCrossentropy()
        self.mean_loss = keras.metrics.Mean(name="loss")
        self.measures = [
            keras.metrics.SparseCategoricalAccuracy(name="accuracy"),
            RootMeanSquaredError(),
        ]

    @property
    def metrics(self) -> list[Any]:
        """The mean loss first."""
        return [self.mean_loss, *self.measures]

    def train_step(self, data: Any) -> dict[str, Any]:
        """One update on one replica's share of a batch."""
        x, y = data
        with tf.GradientTape() as tape:
            predicted = self(x, training=True)
            loss = self.loss_of(y, predicted)
            scaled = self.optimizer.scale_loss(loss)
        variables = self.trainable_variables
        self.optimizer.apply(tape.gradient(scaled, variables), variables)
        return self._measure(y, predicted, loss)

    def test_step(self, data: Any) -> dict[str, Any]:
        """The same without an update."""
        x, y = data
        predicted = self(x, training=False)
        return self._measure(y, predicted, self.loss_of(y, predicted))

    def _measure(self, y: Any, predicted: Any, loss: Any) -> dict[str, Any]:
        _count(self.mean_loss, loss, y)
        for metric in self.measures:
            metric.update_state(y, predicted)
        return {metric.name: metric.result() for metric in self.metrics}


@keras.saving.register_keras_serializable("trainer")
class ComputeLossModel(keras.Model):
    """Loss and metrics are those that it was compiled with; the step between them is its own."""

    def train_step(self, data: Any) -> dict[str, Any]:
        """One update on one replica's share of a batch."""
        x, y = data
        with tf.GradientTape() as tape:
            predicted = self(x, training=True)
            loss = self.compute_loss(x, y, predicted)
            scaled = self.optimizer.scale_loss(loss)
        variables = self.trainable_variables
        self.optimizer.apply(tape.gradient(scaled, variables), variables)
        _count(self.metrics[0], loss, y)
        return dict(self.compute_metrics(x, y, predicted))


def _count(mean_loss: Any, loss: Any, y: Any) -> None:
    # Keras has divided a replica's loss by their number, so that their gradients can be added up;
    # a batch counts as much as it has records.
    replicas = tf.distribute.get_strategy().num_replicas_in_sync
    mean_loss.update_state(loss * replicas, sample_weight=tf.shape(y)[0])


def build(params: MnistParams) -> Any:
    """The model, ready to train: float32 [n, 28, 28, 1] -> probabilities [n, 10]."""
    image = keras.Input((28, 28, 1), name="image")
    x = layers.Dense(params.units, activation="relu")(layers.Flatten()(image))
    digit = layers.Dense(10, activation="softmax")(layers.Dropout(params.dropout)(x))
    optimizer = keras.optimizers.Adam(params.learning_rate)
    if params.style == "own_loss":
        model = OwnLossModel(image, digit)
        model.compile(optimizer)
        return model
    model = {"compile": keras.Model, "compute_loss": ComputeLossModel}[params.style](image, digit)
    model.compile(
        optimizer,
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy", RootMeanSquaredError()],
    )
    return model
