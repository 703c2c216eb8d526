"""Image classifier: a small convnet for any data set of images with a class.

What the images and classes are, the data set tells: one that `trainer data prepare --from FOLDER`
made, or any of TensorFlow Datasets with a feature `image` and one class.
"""

from dataclasses import dataclass
from typing import Any

from trainer.config import changeable, identity
from trainer.data.facts import Facts
from trainer.data.spec import DataSpec
from trainer.errors import ConfigError
from trainer.recipes.base import Params, Recipe


class ImageClassifierParams(Params):
    """The network, and what is done to its images."""

    image: str = identity("image", help="The feature with the image.")
    label: str | None = identity(
        None, help="The feature with the class; by default the only one that has classes."
    )
    image_size: int = identity(64, help="Images are resized to so many pixels, both ways.", ge=8)
    filters: int = identity(32, help="Filters of the first block; each doubles them.", ge=1)
    blocks: int = identity(3, help="Blocks of convolution; each halves the image.", ge=1, le=8)
    dropout: float = identity(0.2, help="Share of features dropped before the head.", ge=0, lt=1)
    flip: bool = identity(True, help="Half of the images of training are mirrored, at random.")
    shift: float = identity(
        0.1, help="Images of training are shifted by up to this share, at random.", ge=0, lt=0.5
    )
    learning_rate: float = changeable(0.001, help="Step size of Adam.", gt=0)


@dataclass(frozen=True)
class Images:
    """Parameters, and what they mean for one data set."""

    params: ImageClassifierParams
    label: str
    classes: int
    channels: int


def fit_to(params: ImageClassifierParams, facts: Facts) -> Images:
    """ConfigError unless the data set has the image and the class."""
    image = facts.features.get(params.image)
    if image is None or not image.is_image:
        images = ", ".join(name for name, f in facts.features.items() if f.is_image)
        raise ConfigError(f"params.image '{params.image}': the data set's images: {images or '-'}")
    if params.image_size < 2**params.blocks:
        raise ConfigError(
            f"params.blocks {params.blocks} halve images of {params.image_size} pixels to nothing:"
            " use fewer, or another params.image_size"
        )
    label = facts.label(params.label)
    return Images(params, label.name, label.num_classes or 0, (image.shape or (3,))[-1] or 3)


def _data(images: Images) -> DataSpec:
    import tensorflow as tf

    params, size = images.params, images.params.image_size

    def decode(features: dict[str, Any]) -> tuple[Any, Any]:
        # uint8 [size, size, channels], a quarter of the memory of what the network makes of it.
        image = tf.image.resize(features[params.image], [size, size], antialias=True)
        x = tf.saturate_cast(tf.round(image), tf.uint8)
        return tf.ensure_shape(x, [size, size, images.channels]), features[images.label]

    def augment(example: tuple[Any, Any], seed: Any) -> tuple[Any, Any]:
        image, label = example
        if params.flip:
            image = tf.image.stateless_random_flip_left_right(image, seed)
        if margin := round(size * params.shift):
            padding = [[margin, margin], [margin, margin], [0, 0]]
            padded = tf.pad(image, padding, mode="SYMMETRIC")
            image = tf.image.stateless_random_crop(padded, [size, size, images.channels], seed + 1)
        return image, label

    return DataSpec(decode, augment if params.flip or params.shift else None)


def _model(images: Images) -> Any:
    import keras
    from keras import layers

    params = images.params
    shape = (params.image_size, params.image_size, images.channels)
    image = keras.Input(shape, dtype="uint8", name="image")
    x = layers.Rescaling(1 / 127.5, offset=-1.0)(image)
    for block in range(params.blocks):
        filters = params.filters * 2**block
        x = layers.Conv2D(filters, 3, padding="same", use_bias=False, name=f"conv{block}")(x)
        # Keras' own 0.99 is of hundreds of steps, which a small data set does not have.
        x = layers.BatchNormalization(momentum=0.9, name=f"norm{block}")(x)
        x = layers.MaxPooling2D(name=f"pool{block}")(layers.ReLU(name=f"relu{block}")(x))
    x = layers.Dropout(params.dropout)(layers.GlobalAveragePooling2D()(x))
    classes = layers.Dense(images.classes, activation="softmax", name="classes")(x)
    model = keras.Model(image, classes, name="image_classifier")
    model.compile(
        keras.optimizers.Adam(params.learning_rate),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    return model


recipe = Recipe(ImageClassifierParams, _data, _model, fit_to=fit_to)
