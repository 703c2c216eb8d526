"""MNIST: handwritten digits in 28x28 grey images, by a dense network with dropout.

The same training in three styles, which come to the same weights: Keras' own step, a step that
does without a compiled loss and compiled metrics, and a step that uses both.
"""

from typing import Any, Literal

from trainer.config import changeable, identity
from trainer.data.spec import DataSpec
from trainer.recipes.base import Params, Recipe


class MnistParams(Params):
    """Size of the network, how it learns, and whose code makes a step."""

    units: int = identity(512, help="Width of the hidden layer.", ge=1)
    dropout: float = identity(
        0.5, help="Share of features dropped before the last layer.", ge=0, lt=1
    )
    learning_rate: float = changeable(0.001, help="Step size of Adam.", gt=0)
    style: Literal["compile", "own_loss", "compute_loss"] = identity(
        "compile",
        help="Keras' train_step, one with its own loss and metrics, or one with the compiled ones.",
    )


def _decode(features: dict[str, Any]) -> tuple[Any, Any]:
    import tensorflow as tf

    # float32 [28, 28, 1] in [0, 1], and a class 0 to 9.
    return tf.cast(features["image"], tf.float32) / 255.0, features["label"]


def _model(params: MnistParams) -> Any:
    from trainer.recipes.mnist_model import build

    return build(params)


recipe = Recipe(params=MnistParams, data=lambda _params: DataSpec(_decode), model=_model)
