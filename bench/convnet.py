"""The model of the loop's benchmarks: the same layers for our loop and for `keras.Model.fit`."""

from typing import Any

from trainer.config import identity
from trainer.recipes.base import Params, Recipe
from trainer.recipes.fashion_mnist import recipe as fashion_mnist


class ConvnetParams(Params):
    """Size of the convnet."""

    filters: int = identity(16, help="Filters of the first block; the second has twice.", ge=1)
    pool: int = identity(4, help="Side of the first pooling window.", ge=1)


def convnet(model_class: Any, params: ConvnetParams) -> Any:
    """A compiled classifier of 28x28 grey images."""
    import keras
    from keras import layers

    image = keras.Input((28, 28, 1))
    x = layers.Conv2D(params.filters, 3, padding="same", activation="relu")(image)
    x = layers.MaxPooling2D(params.pool)(x)
    x = layers.Conv2D(2 * params.filters, 3, padding="same", activation="relu")(x)
    x = layers.GlobalAveragePooling2D()(x)
    model = model_class(image, layers.Dense(10, activation="softmax")(x))
    model.compile(
        optimizer=keras.optimizers.Adam(1e-3), loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )  # fmt: skip
    return model


def _model(params: ConvnetParams) -> Any:
    from trainer.models.train_step import TrainStepModel

    return convnet(TrainStepModel, params)


recipe = Recipe(
    params=ConvnetParams,
    data=lambda _params: fashion_mnist.data(fashion_mnist.params()),
    model=_model,
)
