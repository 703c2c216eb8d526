"""The network, and the class of layers that it is made of."""

from typing import Any

import keras
from keras import layers

from .recipe import DigitsParams


@keras.saving.register_keras_serializable("new_recipe")
class Residual(layers.Layer):
    """Two dense layers, whose result is added to what goes in: float32 [n, units], also out.

    `get_config` and the line above are there for the exported model, which holds such layers.
    """

    def __init__(self, units: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.units = units
        self.first = layers.Dense(units, activation="relu")
        self.second = layers.Dense(units)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Make the weights of both layers."""
        self.first.build(input_shape)
        self.second.build((*input_shape[:-1], self.units))

    def call(self, x: Any) -> Any:
        """float32 [n, units] -> [n, units]."""
        return x + self.second(self.first(x))

    def get_config(self) -> dict[str, Any]:
        """What makes an equal one."""
        return {**super().get_config(), "units": self.units}


def build(params: DigitsParams) -> Any:
    """The compiled model: float32 [n, 8, 8, 1] -> probabilities [n, 10]."""
    image = keras.Input((8, 8, 1), name="image")
    x = layers.Dense(params.units, activation="relu")(layers.Flatten()(image))
    for _ in range(params.blocks):
        x = Residual(params.units)(x)
    x = layers.Dropout(params.dropout)(x)
    model = keras.Model(image, layers.Dense(10, activation="softmax")(x))
    model.compile(
        optimizer=keras.optimizers.Adam(params.learning_rate),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    return model
