"""The network of recipe `beans`: Keras' MobileNetV2 under a head, in three phases and styles."""

import hashlib
import tempfile
from pathlib import Path
from typing import Any

import keras
from keras import layers

from trainer.errors import ConfigError, ObjectNotFoundError
from trainer.log import get_log
from trainer.models.train_step import TrainStepModel
from trainer.recipes.beans import WEIGHTS_FILE, BeansParams
from trainer.storage import open_storage

MAX_WEIGHTS_BYTES = 256 << 20  # of MobileNetV2, the widest that Keras knows has 18 MB


def build(params: BeansParams) -> Any:
    """The model, ready to train: uint8 [n, size, size, 3] -> probabilities [n, classes]."""
    photo = keras.Input((params.image_size, params.image_size, 3), dtype="uint8", name="photo")
    x = backbone(params)(layers.Rescaling(1 / 127.5, offset=-1.0)(photo))
    x = layers.Dropout(params.dropout)(layers.GlobalAveragePooling2D()(x))
    classes = layers.Dense(params.classes, activation="softmax", name="head")(x)
    optimizer = keras.optimizers.Adam(params.learning_rate)
    loss = keras.losses.SparseCategoricalCrossentropy()
    accuracy = keras.metrics.SparseCategoricalAccuracy(name="accuracy")
    if params.style == "own_parts":
        model = TrainStepModel(photo, classes)
        model.equip(optimizer=optimizer, loss=loss, metrics=[accuracy])
        return model
    model = (keras.Model if params.style == "compile" else TrainStepModel)(photo, classes)
    model.compile(optimizer, loss, weighted_metrics=[accuracy])
    return model


def backbone(params: BeansParams) -> Any:
    """MobileNetV2 without its head: [n, size, size, 3] in [-1, 1] -> [n, rows, columns, depth]."""
    model = keras.applications.MobileNetV2(
        input_shape=(params.image_size, params.image_size, 3), alpha=params.alpha,
        include_top=False, weights=None, name="backbone",
    )  # fmt: skip
    model.trainable = params.phase != "head"
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            # With its own 0.999 it takes thousands of steps to forget the first statistics.
            layer.momentum = 0.9
            # Frozen, it uses the statistics that it came with, and keeps them. To call the backbone
            # with training=False is not enough: the model around it passes training=True on.
            layer.trainable = params.phase == "whole"
    return model


def begin(params: BeansParams, model: Any) -> None:
    """The weights that the backbone begins with."""
    if params.weights is not None:
        load_weights(model.get_layer("backbone"), params.weights)
    elif params.phase != "whole":
        get_log().info("backbone", weights="random, unless train.start_from gives others")


def load_weights(model: Any, url: str) -> None:
    """Put a file's weights into `model`; ConfigError unless they are all there, and fit."""
    folder, slash, file = url.rpartition("/")
    storage = open_storage(folder or slash or ".")
    try:
        size = storage.stat(file).size
        if size > MAX_WEIGHTS_BYTES:
            raise ConfigError(
                f"params.weights {url} has {size} bytes, of at most {MAX_WEIGHTS_BYTES}: it is "
                "hardly of a MobileNetV2"
            )
        data = storage.read(file)
    except ObjectNotFoundError:
        raise ConfigError(
            f"no file params.weights {url}: put it there, where it is needed until the run's first "
            "checkpoint; a new run may start from random weights, with null"
        ) from None
    with tempfile.TemporaryDirectory(prefix="trainer-weights-") as temporary:
        path = Path(temporary) / f"backbone{WEIGHTS_FILE}"
        path.write_bytes(data)
        try:
            model.load_weights(path)
        except Exception as error:
            raise ConfigError(
                f"params.weights {url} does not hold the weights of this backbone (params.alpha "
                f"says how wide it is): {str(error)[:300]}"
            ) from error
    get_log().info(
        "backbone", url=url, sha256=hashlib.sha256(data).hexdigest(), arrays=len(model.weights)
    )
