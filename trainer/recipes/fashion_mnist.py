"""Fashion-MNIST: ten kinds of clothing in 28x28 grey images, by a small convnet.

The same training in three forms: the model's own steps, Keras' fit (`train.engine: fit`), and a
loop by hand; from our batches, or from those of a `keras.utils.PyDataset`.
"""

from typing import Any, Literal

from trainer.config import changeable, identity
from trainer.data.spec import DataSpec
from trainer.recipes.base import Params, Recipe
from trainer.recipes.chosen_loop import chosen_loop


class FashionMnistParams(Params):
    """Size of the convnet, and how it learns."""

    filters: int = identity(24, help="Filters of the first block; the second has twice.", ge=1)
    convolutions: int = identity(2, help="Convolutions in a block.", ge=1)
    dropout: float = identity(
        0.1, help="Share of features dropped before the last layer.", ge=0, lt=1
    )
    learning_rate: float = changeable(0.005, help="Step size of Adam.", gt=0)
    decay_steps: int | None = changeable(
        None, help="Steps in which the step size falls to 0, along a cosine; none: it stays.", ge=1
    )
    loop: Literal["usual", "own"] = identity(
        "usual", help="The loop of the trainer, or one of the recipe's own, by hand."
    )
    batches: Literal["usual", "mirrored"] = identity(
        "usual", help="The batches of the trainer, or a PyDataset's, whose images are mirrored."
    )


def _data(params: FashionMnistParams) -> DataSpec:
    if params.batches == "usual":
        return DataSpec(_decode)
    from trainer.recipes.fashion_mnist_batches import MirroredImages

    return DataSpec(_decode, batches=MirroredImages)


def _decode(features: dict[str, Any]) -> tuple[Any, Any]:
    import tensorflow as tf

    # float32 [28, 28, 1] in [0, 1], and a class 0 to 9.
    return tf.cast(features["image"], tf.float32) / 255.0, features["label"]


def _model(params: FashionMnistParams) -> Any:
    import keras
    from keras import layers

    from trainer.models.train_step import TrainStepModel

    image = keras.Input((28, 28, 1), name="image")
    x = image
    for _ in range(params.convolutions):
        x = layers.Conv2D(params.filters, 3, padding="same", activation="relu")(x)
    x = layers.MaxPooling2D(4)(x)
    for _ in range(params.convolutions):
        x = layers.Conv2D(2 * params.filters, 3, padding="same", activation="relu")(x)
    x = layers.GlobalAveragePooling2D()(x)
    x = layers.Dropout(params.dropout)(x)
    model = TrainStepModel(image, layers.Dense(10, activation="softmax")(x))
    rate: Any = params.learning_rate
    if params.decay_steps is not None:
        rate = keras.optimizers.schedules.CosineDecay(rate, params.decay_steps)
    model.compile(
        optimizer=keras.optimizers.Adam(rate),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    return model


recipe = Recipe(
    params=FashionMnistParams,
    data=_data,
    model=_model,
    loop=lambda params: chosen_loop(params.loop),
)
