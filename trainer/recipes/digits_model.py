"""The network of recipe `digits`, with a loss and a metric of its own."""

from typing import Any

import keras
from keras import layers, ops

from trainer.recipes.digits import DigitsParams


def squared_error(y_true: Any, y_pred: Any) -> Any:
    """A loss as a function: int [n] and logits [n, classes] -> [n], distance of probabilities."""
    wanted = ops.one_hot(y_true, y_pred.shape[-1])
    return ops.mean(ops.square(wanted - ops.softmax(y_pred)), axis=-1)


@keras.saving.register_keras_serializable("trainer")
class ModestSquaredError(keras.losses.Loss):
    """The same as a class, so that it can be configured: confidence costs `penalty`.

    Keras makes the mean over records of what `call` returns, and weighs them.
    """

    def __init__(self, penalty: float = 0.1, name: str = "modest_squared_error") -> None:
        super().__init__(name=name)
        self.penalty = penalty

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """int [n] and logits [n, classes] -> [n]."""
        confidence = ops.mean(ops.square(0.5 - ops.softmax(y_pred)), axis=-1)
        return squared_error(y_true, y_pred) + self.penalty * confidence

    def get_config(self) -> dict[str, Any]:
        """What makes an equal one."""
        return {"penalty": self.penalty, "name": self.name}


@keras.saving.register_keras_serializable("trainer")
class CategoricalTruePositives(keras.metrics.Metric):
    """How many records got the class that is theirs; each counts as much as it weighs."""

    def __init__(self, name: str = "true_positives", **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)
        # Each replica counts its own, and they are added up: Keras' way for a metric's weights.
        self.count = self.add_weight(shape=(), initializer="zeros", name="count")

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """int [n] or [n, 1], logits [n, classes], and weights [n]."""
        found = ops.cast(ops.argmax(y_pred, axis=-1), "int32")
        right = ops.cast(ops.equal(ops.reshape(ops.cast(y_true, "int32"), (-1,)), found), "float32")
        if sample_weight is not None:
            right = right * ops.reshape(ops.cast(sample_weight, "float32"), (-1,))
        self.count.assign_add(ops.sum(right))

    def result(self) -> Any:
        """A scalar, float32: the number now, not the variable, which validation counts in next."""
        return ops.copy(self.count)


def build(params: DigitsParams) -> Any:
    """The compiled model: float32 [n, 8, 8, 1] -> logits [n, 10], or a dict with parity's too."""
    image = keras.Input((8, 8, 1), name="image")
    x = layers.Flatten()(image)
    for _ in range(2):
        x = layers.Dense(params.units, activation="relu")(x)
    digit = layers.Dense(10, name="digit")(x)
    losses = {
        "crossentropy": keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        "function": squared_error,
        "class": ModestSquaredError(),
    }
    if params.parity_weight is None:
        model = keras.Model(image, digit)
        model.compile(
            optimizer=keras.optimizers.RMSprop(params.learning_rate),
            loss=losses[params.loss],
            metrics=["accuracy"],
            weighted_metrics=[CategoricalTruePositives()],
        )
        return model
    model = keras.Model(image, {"digit": digit, "parity": layers.Dense(1, name="parity")(x)})
    model.compile(
        optimizer=keras.optimizers.RMSprop(params.learning_rate),
        loss={
            "digit": losses[params.loss],
            "parity": keras.losses.BinaryCrossentropy(from_logits=True),
        },
        loss_weights={"digit": 1.0, "parity": params.parity_weight},
        metrics={
            "digit": ["accuracy"],
            "parity": [keras.metrics.BinaryAccuracy(name="accuracy", threshold=0.0)],
        },
        weighted_metrics={"digit": [CategoricalTruePositives()]},
    )
    return model
