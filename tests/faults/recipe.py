"""A recipe that compiles in a second and has all that makes a resume hard: dropout and Adam."""

import json
import os
import signal
import time
import zlib
from pathlib import Path
from typing import Any

from tests.faults.inject import note
from trainer.config import changeable, identity
from trainer.data.spec import DataSpec
from trainer.recipes.base import Params, Recipe


class SmallParams(Params):
    """Parameters of the small net."""

    units: int = identity(8, help="Width.", ge=1)
    learning_rate: float = changeable(0.01, help="Step size.", gt=0)


def _decode(features: dict[str, Any]) -> tuple[Any, Any]:
    import tensorflow as tf

    return tf.cast(features["image"], tf.float32) / 255.0, features["label"]


def _model(params: SmallParams) -> Any:
    import keras
    from keras import layers

    from trainer.models.train_step import TrainStepModel

    image = keras.Input((28, 28, 1))
    x = layers.MaxPooling2D(4)(image)
    x = layers.Dense(params.units, activation="relu")(layers.Flatten()(x))
    x = layers.Dropout(0.3)(x)
    model = TrainStepModel(image, layers.Dense(10, activation="softmax")(x))
    optimizer = keras.optimizers.Adam(params.learning_rate)
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def _recording_model(params: SmallParams) -> Any:
    """The same model; its steps say on which records they work, and may send a signal."""
    import keras
    import tensorflow as tf

    from trainer.models.train_step import TrainStepModel

    plain = _model(params)

    class Recording(TrainStepModel):
        def train_step(self, data: Any) -> Any:
            tf.numpy_function(_inside_step, [data[0], self.optimizer.iterations.value], [])
            return super().train_step(data)

    model = Recording(plain.input, plain.output)
    optimizer = keras.optimizers.Adam(params.learning_rate)
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def _slow_model(params: SmallParams) -> Any:
    """The same model, in whose building a lease of 3 s is renewed."""
    time.sleep(4)
    return _model(params)


def _slow_test_model(params: SmallParams) -> Any:
    """The same model; each step of a pass takes most of a second."""
    import keras
    import tensorflow as tf

    from trainer.models.train_step import TrainStepModel

    plain = _model(params)

    class SlowTest(TrainStepModel):
        def test_step(self, data: Any) -> Any:
            tf.numpy_function(lambda: time.sleep(0.8), [], [])
            return super().test_step(data)

    model = SlowTest(plain.input, plain.output)
    model.compile(keras.optimizers.Adam(), "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def _inside_step(images: Any, iteration: Any) -> None:
    """Append {step, fingerprints} to FAULT_RECORDS; send FAULT_IN_STEP's signal at its step."""
    prints = [zlib.crc32(image.tobytes()) for image in images]
    with Path(os.environ["FAULT_RECORDS"]).open("a", encoding="utf-8") as file:
        file.write(json.dumps({"step": int(iteration), "records": prints}) + "\n")
    name, _, at = os.environ.get("FAULT_IN_STEP", "").partition(":")
    if at == str(int(iteration)):
        note(f"{name} inside step {at}")
        os.kill(os.getpid(), signal.Signals[name])


def _noisy_model(params: SmallParams) -> Any:
    """The same model with noise in its test step, too, as in variational ones."""
    import keras

    from trainer.models.train_step import TrainStepModel

    class Noise(keras.layers.Layer):
        def __init__(self) -> None:
            super().__init__()
            self.seeds = keras.random.SeedGenerator(7)

        def call(self, x: Any) -> Any:
            return x + keras.random.normal(keras.ops.shape(x), stddev=0.01, seed=self.seeds)

    plain = _model(params)
    model = TrainStepModel(plain.input, keras.layers.Softmax()(Noise()(plain.output)))
    optimizer = keras.optimizers.Adam(params.learning_rate)
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def _guide_model(params: SmallParams) -> Any:
    """A train_step as Keras' guides write it: compiled metrics come back as one dict."""
    import keras
    import tensorflow as tf

    plain = _model(params)

    class Guide(keras.Model):
        def train_step(self, data: Any) -> Any:
            x, y = data
            with tf.GradientTape() as tape:
                predicted = self(x, training=True)
                loss = self.compute_loss(y=y, y_pred=predicted)
            variables = self.trainable_variables
            self.optimizer.apply(tape.gradient(loss, variables), variables)
            for metric in self.metrics:
                if metric.name == "loss":
                    metric.update_state(loss)
                else:
                    metric.update_state(y, predicted)
            return {metric.name: metric.result() for metric in self.metrics}

    model = Guide(plain.input, plain.output)
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def _normalized_model(params: SmallParams) -> Any:
    """Batch normalization and clipping, which look at all records of a step; no dropout.

    Smooth, so that rounding is not blown up where a relu has its corner.
    """
    import keras
    from keras import layers

    from trainer.models.train_step import TrainStepModel

    image = keras.Input((28, 28, 1))
    x = layers.Conv2D(4, 3, strides=2, use_bias=False)(image)
    x = layers.Activation("tanh")(layers.BatchNormalization()(x))
    x = layers.Dense(params.units, activation="tanh")(layers.Flatten()(x))
    model = TrainStepModel(image, layers.Dense(10, activation="softmax")(x))
    optimizer = keras.optimizers.SGD(params.learning_rate, momentum=0.9, global_clipnorm=0.5)
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def _lambda_model(params: SmallParams) -> Any:
    import keras

    plain = _model(params)
    model = keras.Model(plain.input, keras.layers.Lambda(lambda x: x * 1.0)(plain.output))
    model.compile("adam", "sparse_categorical_crossentropy")
    return model


def _broken_model(_params: SmallParams) -> Any:
    raise RuntimeError("no such layer")


def _broken_step_model(params: SmallParams) -> Any:
    import keras

    from trainer.models.train_step import TrainStepModel

    class Broken(TrainStepModel):
        def train_step(self, data: Any) -> Any:
            raise RuntimeError("no such step")

    plain = _model(params)
    model = Broken(plain.input, plain.output)
    model.compile(keras.optimizers.Adam(), "sparse_categorical_crossentropy")
    return model


def _nine_classes_model(params: SmallParams) -> Any:
    """One class too few, which is known only when a step meets the tenth."""
    import keras

    plain = _model(params)
    model = keras.Model(plain.input, keras.layers.Dense(9, "softmax")(plain.layers[-2].output))
    model.compile(keras.optimizers.Adam(), "sparse_categorical_crossentropy")
    return model


def _broken_decode(_features: dict[str, Any]) -> tuple[Any, Any]:
    raise RuntimeError("no such format")


def _picky_decode(features: dict[str, Any]) -> tuple[Any, Any]:
    """Refuses a record whose label is 9 while it is read, not while it is traced."""
    import tensorflow as tf

    tf.debugging.assert_less(features["label"], tf.constant(9, tf.int64), "an ankle boot")
    return _decode(features)


_DATA = lambda _params: DataSpec(_decode)  # noqa: E731

recording = Recipe(SmallParams, _DATA, _recording_model)
noisy = Recipe(SmallParams, _DATA, _noisy_model)
guide = Recipe(SmallParams, _DATA, _guide_model)
normalized = Recipe(SmallParams, _DATA, _normalized_model)
with_lambda = Recipe(SmallParams, _DATA, _lambda_model)
broken = Recipe(SmallParams, _DATA, _broken_model)
broken_step = Recipe(SmallParams, _DATA, _broken_step_model)
nine_classes = Recipe(SmallParams, _DATA, _nine_classes_model)
no_spec = Recipe(SmallParams, lambda _params: _decode, _model)  # type: ignore[arg-type, return-value]
no_callbacks = Recipe(SmallParams, _DATA, _model, callbacks=lambda _params: "x")
no_params = Recipe(object, _DATA, _model)  # type: ignore[arg-type]
broken_decode = Recipe(SmallParams, lambda _params: DataSpec(_broken_decode), _model)
picky_decode = Recipe(SmallParams, lambda _params: DataSpec(_picky_decode), _model)
recipe = Recipe(SmallParams, _DATA, _model)
slow = Recipe(SmallParams, _DATA, _slow_model)
slow_test = Recipe(SmallParams, _DATA, _slow_test_model)
