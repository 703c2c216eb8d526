"""CIFAR-10: ten classes of 32x32 colour photos, by three blocks of convolution and max-pool.

The same network in two forms, as a sequence of layers and in classes of its own, which come to the
same weights. Crops of photos that come with the trainer stand in for the real set.
"""

from typing import Any, Literal

from trainer.config import changeable, identity
from trainer.data.spec import DataSpec
from trainer.recipes.base import Params, Recipe
from trainer.recipes.chosen_loop import chosen_loop

SHAPE = (32, 32, 3)
CLASSES = 10


class Cifar10Params(Params):
    """The network's form and size, and how it learns."""

    form: Literal["sequential", "subclassed"] = identity(
        "sequential", help="Keras' Sequential, or a block, a head and a model of our own classes."
    )
    filters: int = identity(64, help="Filters of each of the three convolutions.", ge=1)
    units: int = identity(128, help="Width of the dense layer before the last.", ge=1)
    learning_rate: float = changeable(0.001, help="Step size of Adam.", gt=0)
    loop: Literal["usual", "own"] = identity(
        "usual", help="The loop of the trainer, or one of the recipe's own, by hand."
    )


def _decode(features: dict[str, Any]) -> tuple[Any, Any]:
    import tensorflow as tf

    # float32 [32, 32, 3] in [0, 1], and a class 0 to 9.
    return tf.cast(features["image"], tf.float32) / 255.0, features["label"]


def _model(params: Cifar10Params) -> Any:
    from trainer.recipes.cifar10_model import build

    return build(params)


recipe = Recipe(
    params=Cifar10Params,
    data=lambda _params: DataSpec(_decode),
    model=_model,
    loop=lambda params: chosen_loop(params.loop),
)
