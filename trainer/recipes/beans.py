"""Beans: which disease a leaf has, by a MobileNetV2 that has learned from other photos.

Transfer learning: a head on a backbone that stays as it is, and then all of it at a lower rate.
The same step in three styles, which come to the same weights.
"""

from typing import Any, Literal, Self

from pydantic import field_validator, model_validator

from trainer.config import changeable, identity
from trainer.config.locations import check_run_location
from trainer.data.spec import DataSpec
from trainer.recipes.base import Params, Recipe
from trainer.recipes.chosen_loop import chosen_loop
from trainer.recipes.record_weights import check_class_weights, weighed

WEIGHTS_FILE = ".weights.h5"
_MEAN_CONTRAST = 35.0  # standard deviation of grey levels, 0 to 255, in builtin:photos


class BeansParams(Params):
    """The network, which part of it trains, what records weigh, and whose code makes a step."""

    phase: Literal["whole", "head", "fine_tune"] = identity(
        "whole",
        help="Train all layers; or the head alone, on a backbone from params.weights or "
        "train.start_from; or all of such a one but its batch normalization.",
    )
    weights: str | None = identity(
        None,
        help=f"A *{WEIGHTS_FILE} file of the backbone alone, as Keras' save_weights writes it, on "
        "this machine or in gs://, from which the run begins; none: random weights.",
    )
    classes: int = identity(3, help="Classes of the data.", ge=2, le=100_000)
    image_size: int = identity(96, help="Photos are resized to so many pixels, both ways.", ge=32)
    alpha: float = identity(0.35, help="Width of the backbone's layers.", gt=0, le=4)
    dropout: float = identity(0.2, help="Share of features dropped before the head.", ge=0, lt=1)
    learning_rate: float = changeable(0.001, help="Step size of Adam.", gt=0)
    style: Literal["compile", "train_step", "own_parts"] = identity(
        "compile",
        help="Keras' step; a train_step of our own with what was compiled; or that without "
        "compile: optimizer, loss and metrics of its own.",
    )
    loop: Literal["usual", "own"] = identity(
        "usual", help="The loop of the trainer, or one of the recipe's own, by hand."
    )
    class_weights: tuple[float, ...] = identity(
        (),
        help="What a photo of each class weighs, in validation and test, too; none: all alike.",
        strict=False,
    )
    weigh_by_contrast: bool = identity(
        False, help="A photo weighs as much as it has contrast, in validation and test, too."
    )

    @field_validator("weights")
    @classmethod
    def _is_a_file(cls, weights: str | None) -> str | None:
        if weights is None:
            return None
        if not weights.endswith(WEIGHTS_FILE):
            raise ValueError(
                f"must be the path or gs:// URL of a *{WEIGHTS_FILE} file, or null: nothing is "
                "downloaded. Where there is a network, keras.applications.MobileNetV2("
                "input_shape=(96, 96, 3), alpha=0.35, include_top=False)"
                f".save_weights('imagenet{WEIGHTS_FILE}') writes such a file"
            )
        return check_run_location(weights)

    @model_validator(mode="after")
    def _one_a_class(self) -> Self:
        check_class_weights(self.class_weights, self.classes)
        return self


def _data(params: BeansParams) -> DataSpec:
    import tensorflow as tf

    def decode(features: dict[str, Any]) -> Any:
        # uint8 [size, size, 3], a quarter of the memory of what the network makes of it first.
        image = tf.image.resize(features["image"], [params.image_size] * 2)
        own = tf.math.reduce_std(image) / _MEAN_CONTRAST if params.weigh_by_contrast else None
        x, y = tf.cast(tf.round(image), tf.uint8), features["label"]
        return weighed(x, y, label=y, class_weights=params.class_weights, own=own)

    return DataSpec(decode)


def _model(params: BeansParams) -> Any:
    from trainer.recipes.beans_model import build

    return build(params)


def _begin(params: BeansParams, model: Any) -> None:
    from trainer.recipes.beans_model import begin

    begin(params, model)


recipe = Recipe(
    params=BeansParams,
    data=_data,
    model=_model,
    begin=_begin,
    loop=lambda params: chosen_loop(params.loop),
)
