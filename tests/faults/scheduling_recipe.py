"""The small recipe with a rate that callbacks of its own set anew for each epoch."""

from typing import Any

from tests.faults.recipe import SmallParams, _model, recipe
from trainer.recipes.base import Recipe


def _callbacks(_params: SmallParams) -> list[Any]:
    import keras

    # From the rate that there is: one that was not put back, or put back too soon, goes astray.
    return [keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate * (0.9 if epoch else 1))]


scheduling = Recipe(SmallParams, recipe.data, _model, _callbacks)
