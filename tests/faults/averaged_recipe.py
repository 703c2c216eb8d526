"""The small net with averaged weights, which take the place of the last ones at the end."""

from typing import Any

from tests.faults.recipe import SmallParams, normalized, recipe
from trainer.recipes.base import Recipe


def _model(params: SmallParams, every: int | None = None) -> Any:
    import keras

    model = recipe.model(params)
    optimizer = keras.optimizers.Adam(
        params.learning_rate, use_ema=True, ema_momentum=0.9, ema_overwrite_frequency=every
    )
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def _normalized_model(params: SmallParams) -> Any:
    """The net for comparisons of numbers; Adam would blow up what is rounded."""
    import keras

    model = normalized.model(params)
    optimizer = keras.optimizers.SGD(
        params.learning_rate, momentum=0.9, global_clipnorm=0.5,
        use_ema=True, ema_momentum=0.9, ema_overwrite_frequency=5,
    )  # fmt: skip
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


averaged = Recipe(SmallParams, recipe.data, _model)
overwriting = Recipe(SmallParams, recipe.data, lambda params: _model(params, every=5))
normalized_overwriting = Recipe(SmallParams, recipe.data, _normalized_model)
