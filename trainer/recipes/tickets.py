"""Support tickets: priority and department from title, text and tags, by one dense network.

Several inputs and outputs, by name or by position, in a functional and in a subclassed model.
"""

from typing import Any, Literal

from trainer.config import changeable, identity
from trainer.data.spec import DataSpec
from trainer.recipes.base import Params, Recipe

WORDS = 10_000
TAGS = 100
INPUTS = {"title": WORDS, "body": WORDS, "tags": TAGS}
OUTPUTS = ("priority", "department")
DEPARTMENTS = 11


class TicketsParams(Params):
    """The network's form, and how its two losses are weighed."""

    form: Literal["functional", "subclassed"] = identity(
        "functional", help="A graph of layers, or a class of our own with a call()."
    )
    structure: Literal["dicts", "lists"] = identity(
        "dicts", help="Inputs, targets, losses and metrics go by name, or by position."
    )
    units: int = identity(64, help="Width of the hidden layer.", ge=1)
    dropout: float = identity(0.5, help="Share of features dropped before the outputs.", ge=0, lt=1)
    priority_weight: float = identity(1.0, help="What the loss of priorities weighs.", ge=0)
    department_weight: float = identity(1.0, help="What the loss of departments weighs.", ge=0)
    learning_rate: float = changeable(0.001, help="Step size of RMSprop.", gt=0)


def _data(params: TicketsParams) -> DataSpec:
    import tensorflow as tf

    def multi_hot(words: Any, size: int) -> Any:
        """uint8 [size]: 1 where a word falls by its hash, which is the same everywhere."""
        places = tf.strings.to_hash_bucket_fast(words, size)
        ones = tf.math.bincount(
            tf.cast(places, tf.int32), minlength=size, maxlength=size, binary_output=True
        )
        return tf.ensure_shape(tf.cast(ones, tf.uint8), [size])

    def decode(features: dict[str, Any]) -> tuple[Any, Any]:
        texts = (tf.strings.lower(features[name]) for name in ("title", "body"))
        words = (tf.strings.split(tf.strings.regex_replace(t, r"[^a-z0-9_]+", " ")) for t in texts)
        x = [multi_hot(found, WORDS) for found in words] + [multi_hot(features["tags"], TAGS)]
        y = tf.cast(features["priority"], tf.float32), features["department"]
        if params.structure == "lists":
            return tuple(x), y  # to tf.data, a list would be one tensor
        return dict(zip(INPUTS, x, strict=True)), dict(zip(OUTPUTS, y, strict=True))

    return DataSpec(decode)


def _model(params: TicketsParams) -> Any:
    from trainer.recipes.tickets_model import build

    return build(params)


recipe = Recipe(params=TicketsParams, data=_data, model=_model)
