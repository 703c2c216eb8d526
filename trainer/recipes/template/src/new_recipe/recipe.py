"""What is trained: the parameters, how a record becomes an example, and the model.

Keras and TensorFlow are imported by the functions that use them, so that a configuration is checked
in a moment. Classes that need them, as layers do, are in `model.py`.
"""

from typing import Any

from trainer.config import changeable, identity
from trainer.data.spec import DataSpec
from trainer.recipes.base import Params, Recipe


class DigitsParams(Params):
    """What a configuration may set below `params:`.

    A run that goes on keeps what is `identity`; what is `changeable` may change with
    `--allow-change params.NAME`, what is `free` at any time.
    """

    units: int = identity(64, help="Width of the network.", ge=1)
    blocks: int = identity(2, help="How many residual blocks there are.", ge=0)
    dropout: float = identity(
        0.1, help="Share of features dropped before the last layer.", ge=0, lt=1
    )
    learning_rate: float = changeable(0.002, help="Step size of Adam.", gt=0)


def _decode(features: dict[str, Any]) -> tuple[Any, Any]:
    """(x, y) of one record; not random. To vary records, give DataSpec an `augment`, too."""
    import tensorflow as tf

    # float32 [8, 8, 1] in [0, 1], and a class 0 to 9.
    return tf.cast(features["image"], tf.float32) / 16.0, features["label"]


def _model(params: DigitsParams) -> Any:
    from .model import build

    return build(params)


recipe = Recipe(params=DigitsParams, data=lambda _params: DataSpec(_decode), model=_model)
