"""Recipes whose models hold more than weights and one optimizer, or fail to hold it."""

from typing import Any

from tests.faults.recipe import SmallParams, _model, recipe
from trainer.recipes.base import Recipe


def _second_optimizer(params: SmallParams, *, is_built: bool = True) -> Any:
    """As adversarial models have it: a second optimizer takes a step of its own."""
    import keras
    import tensorflow as tf

    from trainer.models.train_step import TrainStepModel

    class TwoSteps(TrainStepModel):
        def train_step(self, data: Any) -> Any:
            logs = super().train_step(data)
            variables = self.layers[-1].trainable_variables
            with tf.GradientTape() as tape:
                loss = self.compute_loss(data[0], data[1], self(data[0], training=True))
            self.others[0].apply(tape.gradient(loss, variables), variables)
            return logs

    plain = _model(params)
    model = TwoSteps(plain.input, plain.output)
    model.compile(
        keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    model.others = [keras.optimizers.Adam(params.learning_rate)]
    if is_built:
        model.others[0].build(model.layers[-1].trainable_variables)
    return model


def _counting(params: SmallParams, *, is_held: bool = True) -> Any:
    """A plain TensorFlow variable counts steps, and decides what they do."""
    import keras
    import tensorflow as tf

    from trainer.models.train_step import TrainStepModel

    count = tf.Variable(0.0, name="count")

    class Counting(TrainStepModel):
        def train_step(self, data: Any) -> Any:
            count.assign_add(1.0)
            return super().train_step((data[0] / (1.0 + count * 0.1), data[1]))

    plain = _model(params)
    model = Counting(plain.input, plain.output)
    model.compile(
        keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    if is_held:
        model.parts = {"count": count}
    return model


def _scheduled(params: SmallParams) -> Any:
    import keras

    model = _model(params)
    rate = keras.optimizers.schedules.CosineDecay(params.learning_rate, 100)
    model.compile(
        keras.optimizers.Adam(rate), "sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    return model


def _nan_metric(params: SmallParams) -> Any:
    import keras

    class Undefined(keras.metrics.Mean):
        def update_state(self, *_args: Any, **_more: Any) -> None:
            """Nothing comes in."""

        def result(self) -> Any:
            return self.total / self.count

    model = _model(params)
    model.compile("adam", "sparse_categorical_crossentropy", metrics=[Undefined(name="undefined")])
    return model


def _leaving(_params: SmallParams) -> Any:
    raise SystemExit


leaving = Recipe(SmallParams, recipe.data, _leaving)
second_optimizer = Recipe(SmallParams, recipe.data, _second_optimizer)
unbuilt_optimizer = Recipe(
    SmallParams, recipe.data, lambda params: _second_optimizer(params, is_built=False)
)
counting = Recipe(SmallParams, recipe.data, _counting)
counting_aside = Recipe(SmallParams, recipe.data, lambda params: _counting(params, is_held=False))
scheduled = Recipe(SmallParams, recipe.data, _scheduled)
plain = Recipe(SmallParams, recipe.data, _model)
nan_metric = Recipe(SmallParams, recipe.data, _nan_metric)
