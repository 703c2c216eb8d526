"""Digits: handwritten ones in 8x8 grey images, by a small dense network.

Keras' own `compile` and `fit` with parts of one's own: a loss, a metric, weights of records, and
two outputs whose losses are weighed against each other.
"""

from typing import Any, Literal

from pydantic import field_validator

from trainer.config import changeable, identity
from trainer.data.spec import DataSpec
from trainer.recipes.base import Params, Recipe
from trainer.recipes.record_weights import check_class_weights, weighed

_MEAN_INK = 0.305


class DigitsParams(Params):
    """The network, its loss, and what its records weigh."""

    units: int = identity(64, help="Width of both hidden layers.", ge=1)
    learning_rate: float = changeable(0.001, help="Step size of RMSprop.", gt=0)
    loss: Literal["crossentropy", "function", "class"] = identity(
        "crossentropy",
        help="Keras' cross-entropy of logits, or a loss of our own: a function, or a class.",
    )
    class_weights: tuple[float, ...] = identity(
        (),
        help="What an image of each class weighs, ten numbers, in validation and test, too; none: "
        "all alike.",
        strict=False,
    )
    weigh_by_ink: bool = identity(
        False, help="An image weighs as much as it has ink, in validation and test, too."
    )
    parity_weight: float | None = identity(
        None, help="A second output tells odd from even; its loss weighs this much.", ge=0
    )

    @field_validator("class_weights")
    @classmethod
    def _one_a_class(cls, weights: tuple[float, ...]) -> tuple[float, ...]:
        check_class_weights(weights, classes=10)
        return weights


def _data(params: DigitsParams) -> DataSpec:
    import tensorflow as tf

    def decode(features: dict[str, Any]) -> Any:
        # float32 [8, 8, 1] in [0, 1], and a class 0 to 9.
        image, digit = tf.cast(features["image"], tf.float32) / 16.0, features["label"]
        y = digit if params.parity_weight is None else {"digit": digit, "parity": digit % 2}
        ink = tf.reduce_mean(image) / _MEAN_INK if params.weigh_by_ink else None
        return weighed(image, y, label=digit, class_weights=params.class_weights, own=ink)

    return DataSpec(decode)


def _model(params: DigitsParams) -> Any:
    from trainer.recipes.digits_model import build

    return build(params)


recipe = Recipe(params=DigitsParams, data=_data, model=_model)
