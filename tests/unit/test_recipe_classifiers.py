"""The two recipes that any data set fits: what they make of records, and of what it tells."""

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from trainer.data.diagnose import Expected
from trainer.data.facts import Facts, Statistics
from trainer.errors import ConfigError
from trainer.recipes import image_classifier, tabular_classifier
from trainer.recipes.image_classifier import ImageClassifierParams
from trainer.recipes.tabular_classifier import TabularClassifierParams

KIND = Expected("kind", "int64_list", (), num_classes=3)
TABLE = Facts(
    {
        "age": Expected("age", "float_list", ()),
        "size": Expected("size", "int64_list", (2,)),
        "city": Expected("city", "bytes_list", ()),
        "note": Expected("note", "bytes_list", ()),
        "kind": KIND,
    },
    {"kind": ("a", "b", "c")},
    {
        "age": Statistics(mean=40.0, deviation=10.0),
        "size": Statistics(mean=[1.0, 2.0], deviation=[1.0, 4.0]),
        "city": Statistics(vocabulary=("Oslo", "Paris", "Rome")),
    },
)
RECORD = {
    "age": np.float32("nan"), "size": np.int64([3, 6]), "city": b"Rome",
    "note": "Äh, no! Äh".encode(), "kind": np.int64(2),
}  # fmt: skip


def both(function: Any, record: dict[str, Any]) -> list[Any]:
    """What it makes of a record, eagerly and in a graph."""
    tensors = {name: tf.constant(value) for name, value in record.items()}
    return [function(tensors), tf.function(function)(tensors)]


def test_a_row_becomes_numbers_and_words() -> None:
    table = tabular_classifier.fit_to(TabularClassifierParams(word_buckets=50), TABLE)
    for x, y in both(tabular_classifier.recipe.data(table).decode, RECORD):
        # What is missing is as the mean.
        assert x["numbers"].numpy().tolist() == [40.0, 3.0, 6.0]
        words = x["words"].numpy()
        assert words[:3].tolist() == [0, 0, 1]
        assert (len(words), words[3:].sum(), int(y)) == (53, 2, 2)


def test_its_model_takes_numbers_by_their_deviation() -> None:
    table = tabular_classifier.fit_to(TabularClassifierParams(word_buckets=50), TABLE)
    model = tabular_classifier.recipe.model(table)
    (normal,) = [each for each in model.layers if "normalization" in each.name]
    assert np.allclose(normal(np.float32([[50, 3, 6]])), [[1, 2, 1]])
    assert model.output_shape == (None, 3)


def test_a_data_set_without_statistics_is_taken_as_it_is() -> None:
    table = tabular_classifier.fit_to(
        TabularClassifierParams(columns=("size", "city")), Facts(TABLE.features, {}, {})
    )
    assert (table.means, table.deviations) == ((0.0, 0.0), (1.0, 1.0))
    x, _ = tabular_classifier.recipe.data(table).decode(RECORD)
    assert x["words"].shape == (10_000,)


@pytest.mark.parametrize(
    ("facts", "params", "message"),
    [
        (TABLE, {"columns": ("kind",)}, "params.columns 'kind': there are age, size, city, note"),
        (TABLE, {"label": "age"}, "params.label 'age': .* with classes are kind"),
        (Facts({"kind": KIND}, {}, {}), {}, "no columns of numbers or texts"),
        (
            Facts({**TABLE.features, "other": Expected("other", "int64_list", (), 2)}, {}, {}),
            {},
            "with classes are kind, other .* name one",
        ),
    ],
)
def test_a_table_that_does_not_fit(facts: Facts, params: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        tabular_classifier.fit_to(TabularClassifierParams(**params), facts)


def photos(channels: int) -> Facts:
    image = Expected("image", "bytes_list", (None, None, channels), is_image=True)
    return Facts({"image": image, "kind": KIND}, {}, {})


@pytest.mark.parametrize("channels", [1, 3])
def test_an_image_is_resized_and_augmented_by_its_seed_alone(channels: int) -> None:
    images = image_classifier.fit_to(ImageClassifierParams(image_size=16), photos(channels))
    spec = image_classifier.recipe.data(images)
    image = np.random.default_rng(0).integers(0, 255, (20, 30, channels), np.uint8)
    for x, y in both(spec.decode, {"image": image, "kind": np.int64(1)}):
        assert (x.shape, x.dtype, int(y)) == ((16, 16, channels), tf.uint8, 1)
        assert spec.augment is not None
        found = [spec.augment((x, y), tf.constant([1, seed]))[0] for seed in (7, 7, 8)]
        assert np.array_equal(found[0], found[1])
        assert not np.array_equal(found[0], found[2])
    assert image_classifier.recipe.model(images).input_shape == (None, 16, 16, channels)


def test_images_that_blocks_would_halve_to_nothing() -> None:
    with pytest.raises(ConfigError, match=r"params\.blocks 5 halve images of 16 pixels"):
        image_classifier.fit_to(ImageClassifierParams(image_size=16, blocks=5), photos(3))
