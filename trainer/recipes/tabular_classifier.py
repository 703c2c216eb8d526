"""Tabular classifier: a dense network for any data set of columns with a class.

What the columns are, the data set tells: one that `trainer data prepare --from FILE` made knows the
numbers' means and the texts' vocabularies, too. Without these numbers are taken as they are, and
texts by their words.
"""

from dataclasses import dataclass
from typing import Any

from trainer.config import changeable, identity
from trainer.data.facts import Facts
from trainer.data.spec import DataSpec
from trainer.errors import ConfigError
from trainer.recipes.base import Params, Recipe


class TabularClassifierParams(Params):
    """The network, and what it learns from."""

    label: str | None = identity(
        None, help="The column with the class; by default the only one that has classes."
    )
    columns: tuple[str, ...] = identity(
        (), help="Columns to learn from; none: all numbers and texts.", strict=False
    )
    word_buckets: int = identity(
        10_000, help="Words of texts without a vocabulary fall into so many by their hash.", ge=1
    )
    units: int = identity(64, help="Width of the hidden layers.", ge=1)
    hidden_layers: int = identity(2, help="How many there are.", ge=0, le=20)
    dropout: float = identity(0.2, help="Share of features dropped after each.", ge=0, lt=1)
    learning_rate: float = changeable(0.001, help="Step size of Adam.", gt=0)


@dataclass(frozen=True)
class Table:
    """Parameters, and what they mean for one data set.

    numbers: columns of numbers, whose values are laid end to end; means and deviations are of each.
    vocabularies: of each column of texts that has one.
    """

    params: TabularClassifierParams
    label: str
    classes: int
    numbers: tuple[str, ...]
    means: tuple[float, ...]
    deviations: tuple[float, ...]
    texts: tuple[str, ...]
    vocabularies: dict[str, tuple[str, ...]]

    @property
    def num_words(self) -> int:
        """Places for texts: one a word of a vocabulary, else those of hashes."""
        buckets = self.params.word_buckets
        return sum(len(self.vocabularies.get(name, range(buckets))) for name in self.texts)


def fit_to(params: TabularClassifierParams, facts: Facts) -> Table:
    """ConfigError unless the data set has the columns and the class."""
    label = facts.label(params.label)
    known = {
        name: feature for name, feature in facts.features.items()
        if feature.num_classes is None and not feature.is_image
        and None not in (feature.shape or ()) and name != label.name
    }  # fmt: skip
    for name in params.columns:
        if name not in known:
            raise ConfigError(f"params.columns '{name}': there are {', '.join(known) or 'none'}")
    own = {name: known[name] for name in params.columns or known}
    if not own:
        raise ConfigError("the data set has no columns of numbers or texts to learn from")
    numbers = tuple(name for name, f in own.items() if f.kind != "bytes_list")
    texts = tuple(name for name, f in own.items() if f.kind == "bytes_list")
    means, deviations = [], []
    for name in numbers:
        found, size = facts.statistics.get(name), _size(own[name].shape)
        means += _flat(found.mean) if found else [0.0] * size
        deviations += _flat(found.deviation) if found else [1.0] * size
    vocabularies = {
        name: facts.statistics[name].vocabulary or () for name in texts
        if name in facts.statistics
    }  # fmt: skip
    return Table(
        params, label.name, label.num_classes or 0, numbers, tuple(means), tuple(deviations), texts,
        vocabularies,
    )  # fmt: skip


def _size(shape: tuple[int | None, ...] | None) -> int:
    size = 1
    for dimension in shape or ():
        size *= dimension or 1
    return size


def _flat(value: Any) -> list[float]:
    """The numbers of nested lists."""
    return [x for part in value for x in _flat(part)] if isinstance(value, list) else [value]


def _data(table: Table) -> DataSpec:
    import tensorflow as tf

    def numbers_of(features: dict[str, Any]) -> Any:
        """float32 [columns]; one that is missing is as the mean."""
        own = [tf.reshape(tf.cast(features[name], tf.float32), [-1]) for name in table.numbers]
        numbers = tf.concat(own, axis=0)
        return tf.where(tf.math.is_nan(numbers), tf.constant(table.means), numbers)

    def words_of(name: str, text: Any) -> Any:
        """uint8 [words]: 1 at each that the text is, or holds."""
        if name in table.vocabularies:
            return tf.cast(tf.equal(tf.constant(table.vocabularies[name]), text), tf.uint8)
        words = tf.strings.split(
            tf.strings.regex_replace(tf.strings.lower(text), r"[^\pL\pN_]+", " ")
        )
        buckets = table.params.word_buckets
        places = tf.cast(tf.strings.to_hash_bucket_fast(words, buckets), tf.int32)
        ones = tf.math.bincount(places, minlength=buckets, maxlength=buckets, binary_output=True)
        return tf.ensure_shape(tf.cast(ones, tf.uint8), [buckets])

    def decode(features: dict[str, Any]) -> tuple[Any, Any]:
        x = {}
        if table.numbers:
            x["numbers"] = numbers_of(features)
        if table.texts:
            x["words"] = tf.concat([words_of(n, features[n]) for n in table.texts], axis=0)
        return x, features[table.label]

    return DataSpec(decode)


def _model(table: Table) -> Any:
    import keras
    from keras import layers

    params, inputs, parts = table.params, {}, []
    if table.numbers:
        inputs["numbers"] = keras.Input((len(table.means),), name="numbers")
        variances = [deviation**2 for deviation in table.deviations]
        parts.append(layers.Normalization(mean=table.means, variance=variances)(inputs["numbers"]))
    if table.texts:
        inputs["words"] = keras.Input((table.num_words,), dtype="uint8", name="words")
        parts.append(layers.Rescaling(1.0)(inputs["words"]))
    x = layers.Concatenate()(parts) if len(parts) > 1 else parts[0]
    for number in range(params.hidden_layers):
        x = layers.Dense(params.units, activation="relu", name=f"hidden{number}")(x)
        x = layers.Dropout(params.dropout)(x)
    classes = layers.Dense(table.classes, activation="softmax", name="classes")(x)
    model = keras.Model(inputs, classes, name="tabular_classifier")
    model.compile(
        keras.optimizers.Adam(params.learning_rate),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    return model


recipe = Recipe(TabularClassifierParams, _data, _model, fit_to=fit_to)
