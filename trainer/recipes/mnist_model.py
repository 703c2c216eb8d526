"""The network of recipe `mnist`, a metric of its own, and its training step in three styles."""

from typing import Any

import keras
from keras import layers, ops

from trainer.recipes.mnist import MnistParams

# A step is written for one of Keras' backends: here are the same ones for each of them.
if keras.backend.backend() == "jax":
    from trainer.recipes import mnist_steps_jax as steps
elif keras.backend.backend() == "torch":
    from trainer.recipes import mnist_steps_torch as steps  # type: ignore[no-redef]
else:
    from trainer.recipes import mnist_steps_tensorflow as steps  # type: ignore[no-redef]


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

    train_step = steps.own_loss_train_step
    test_step = steps.own_loss_test_step


@keras.saving.register_keras_serializable("trainer")
class ComputeLossModel(keras.Model):
    """Loss and metrics are those that it was compiled with; the step between them is its own."""

    train_step = steps.compute_loss_train_step


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
