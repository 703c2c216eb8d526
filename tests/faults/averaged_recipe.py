"""The small net with averaged weights, which take the place of the last ones at the end."""

from typing import Any

from tests.faults.recipe import SmallParams, normalized, recipe
from trainer.recipes.base import Recipe


def _model(params: SmallParams, every: int | None = None, of: Recipe = recipe) -> Any:
    import keras

    model = of.model(params)
    optimizer = keras.optimizers.Adam(
        params.learning_rate, use_ema=True, ema_momentum=0.9, ema_overwrite_frequency=every
    )
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


averaged = Recipe(SmallParams, recipe.data, _model)
normalized_overwriting = Recipe(
    SmallParams, recipe.data, lambda params: _model(params, every=5, of=normalized)
)
overwriting = Recipe(SmallParams, recipe.data, lambda params: _model(params, every=5))
