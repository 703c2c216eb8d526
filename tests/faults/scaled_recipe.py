"""The small net in float16, whose scaled gradients overflow until the scale has come down."""

from typing import Any

from tests.faults.recipe import SmallParams, recipe
from trainer.config import identity
from trainer.recipes.base import Recipe


class ScaledParams(SmallParams):
    """The scale to begin with."""

    scale: float = identity(2.0**15, help="Loss scale.", gt=0)
    has_gradient: bool = identity(True, help="Whether the model's gradients are numbers.")


def _model(params: ScaledParams) -> Any:
    import keras

    from trainer.models.train_step import TrainStepModel

    class NoGradient(keras.layers.Layer):
        def call(self, x: Any) -> Any:
            return x + keras.ops.sqrt(x * 0)

    model = recipe.model(params)
    if not params.has_gradient:
        model = TrainStepModel(model.input, NoGradient()(model.output))
    plain = keras.optimizers.Adam(params.learning_rate, global_clipnorm=1.0)
    optimizer = keras.optimizers.LossScaleOptimizer(
        plain, initial_scale=params.scale, dynamic_growth_steps=3
    )
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


scaled = Recipe(ScaledParams, recipe.data, _model)


def _unscaled_model(params: SmallParams) -> Any:
    model = recipe.model(params)
    model.compile("adam", "sparse_categorical_crossentropy", auto_scale_loss=False)
    return model


unscaled = Recipe(SmallParams, recipe.data, _unscaled_model)
