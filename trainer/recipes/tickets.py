"""Support tickets: priority and department from title, text and tags, by one dense network.

Several inputs and outputs, by name or by position, in a functional and in a subclassed model. A
third output, difficulty, can be grown from an inner layer of the trained model.
"""

from typing import Any, Literal, Self

from pydantic import model_validator

from trainer.config import changeable, identity
from trainer.data.spec import DataSpec
from trainer.recipes.base import Params, Recipe

WORDS = 10_000
TAGS = 100
INPUTS = {"title": WORDS, "body": WORDS, "tags": TAGS}
OUTPUTS = ("priority", "department")
DEPARTMENTS = 11
DIFFICULTIES = 3
# Nobody has recorded how hard an entry was. Its length stands in for that: words in the body, cut
# where a third and two thirds of the records for training are shorter.
_LONGER = (12, 19)


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
    difficulty: bool = identity(
        False,
        help="A third output, made of the features that the other two are made of: whether the "
        "text is short, middling or long, in place of how hard the ticket is.",
    )
    difficulty_weight: float = identity(1.0, help="What the loss of difficulties weighs.", ge=0)
    frozen: bool = identity(
        False,
        help="Train the output of difficulties alone: the features and the other outputs stay as "
        "train.start_from gives them.",
    )
    learning_rate: float = changeable(0.001, help="Step size of RMSprop.", gt=0)

    @model_validator(mode="after")
    def _something_trains(self) -> Self:
        if self.frozen and not self.difficulty:
            raise ValueError("frozen leaves nothing to train: set params.difficulty=true with it")
        return self

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names, in the order in which outputs go by position."""
        return (*OUTPUTS, "difficulty") if self.difficulty else OUTPUTS


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
        words = [tf.strings.split(tf.strings.regex_replace(t, r"[^a-z0-9_]+", " ")) for t in texts]
        x = [multi_hot(found, WORDS) for found in words] + [multi_hot(features["tags"], TAGS)]
        y = [tf.cast(features["priority"], tf.float32), features["department"]]
        if params.difficulty:
            y.append(tf.reduce_sum(tf.cast(tf.size(words[1]) > tf.constant(_LONGER), tf.int64)))
        if params.structure == "lists":
            return tuple(x), tuple(y)  # to tf.data, a list would be one tensor
        return dict(zip(INPUTS, x, strict=True)), dict(zip(params.outputs, y, strict=True))

    return DataSpec(decode)


def _model(params: TicketsParams) -> Any:
    from trainer.recipes.tickets_model import build

    return build(params)


recipe = Recipe(params=TicketsParams, data=_data, model=_model)
