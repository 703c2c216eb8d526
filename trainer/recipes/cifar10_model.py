"""The network of recipe `cifar10`: as a sequence of layers, and in classes of its own.

Layers have the same names in both, so that their variables have the same paths.
"""

from typing import Any

import keras
from keras import layers

from trainer.recipes.cifar10 import CLASSES, SHAPE, Cifar10Params

BLOCKS = ("block1", "block2", "block3")


def sequential(filters: int, units: int) -> Any:
    """float32 [n, 32, 32, 3] -> probabilities [n, 10]; each block is a sequence in the sequence."""
    blocks = [
        keras.Sequential(
            [
                layers.Conv2D(filters, 3, padding="same", activation="relu", name="conv"),
                layers.MaxPooling2D(name="pool"),
            ],
            name=name,
        )
        for name in BLOCKS
    ]
    head = keras.Sequential(
        [
            layers.Flatten(name="flat"),
            layers.Dense(units, activation="relu", name="hidden"),
            layers.Dense(CLASSES, activation="softmax", name="classes"),
        ],
        name="head",
    )
    return keras.Sequential([keras.Input(SHAPE), *blocks, head], name="cifar10")


@keras.saving.register_keras_serializable("trainer")
class ConvBlock(layers.Layer):
    """A 3x3 convolution, and the largest of every four of its results.

    float32 [n, height, width, channels] -> [n, height // 2, width // 2, filters].
    """

    def __init__(self, filters: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.filters = filters
        self.conv = layers.Conv2D(filters, 3, padding="same", activation="relu", name="conv")
        self.pool = layers.MaxPooling2D(name="pool")

    def call(self, inputs: Any) -> Any:
        """What the docstring of the class says."""
        return self.pool(self.conv(inputs))

    def get_config(self) -> dict[str, Any]:
        """What makes an equal one."""
        return {**super().get_config(), "filters": self.filters}


@keras.saving.register_keras_serializable("trainer")
class ClassifierHead(layers.Layer):
    """From what the blocks found to a probability for each class: [n, …] -> [n, classes]."""

    def __init__(self, units: int, classes: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.units, self.num_classes = units, classes
        self.flat = layers.Flatten(name="flat")
        self.hidden = layers.Dense(units, activation="relu", name="hidden")
        self.classes = layers.Dense(classes, activation="softmax", name="classes")

    def call(self, inputs: Any) -> Any:
        """What the docstring of the class says."""
        return self.classes(self.hidden(self.flat(inputs)))

    def get_config(self) -> dict[str, Any]:
        """What makes an equal one."""
        return {**super().get_config(), "units": self.units, "classes": self.num_classes}


@keras.saving.register_keras_serializable("trainer")
class Cifar10Model(keras.Model):
    """The same network as `sequential`, in classes of its own."""

    def __init__(self, filters: int, units: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.filters, self.units = filters, units
        self.blocks = [ConvBlock(filters, name=name) for name in BLOCKS]
        self.head = ClassifierHead(units, CLASSES, name="head")

    def call(self, inputs: Any) -> Any:
        """float32 [n, 32, 32, 3] -> probabilities [n, 10]."""
        x = inputs
        for block in self.blocks:
            x = block(x)
        return self.head(x)

    def get_config(self) -> dict[str, Any]:
        """What makes an equal one."""
        return {**super().get_config(), "filters": self.filters, "units": self.units}


def build(params: Cifar10Params) -> Any:
    """The compiled model."""
    if params.form == "sequential":
        model = sequential(params.filters, params.units)
    else:
        model = Cifar10Model(params.filters, params.units, name="cifar10")
    model.compile(
        keras.optimizers.Adam(params.learning_rate),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    return model
