"""Which outputs tell classes, and what the classes are called."""

import numpy as np
import pytest

from trainer.pictures.classes import classified, names_of

ONES = np.array([0, 1, 1])
THREE = np.array([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.3, 0.3, 0.4]])
ONE = np.array([[0.2], [0.9], [0.4]])
KNOWN = {"label": ("cat", "dog", "owl"), "side": ("left", "right")}


# targets, outputs, the classes that are read out of the targets
@pytest.mark.parametrize(
    ("y", "outputs", "classes"),
    [
        (ONES, THREE, [0, 1, 1]),
        (ONES[:, None].astype(np.uint8), THREE, [0, 1, 1]),
        (ONES.astype(np.float32), THREE, [0, 1, 1]),
        (np.eye(3), THREE, [0, 1, 2]),
        (ONES.astype(np.float32), ONE, [0, 1, 1]),
        (ONES == 1, ONE, [0, 1, 1]),
    ],
    ids=["numbers", "column", "floats", "one-hot", "two", "booleans"],
)
def test_classes_are_told(y, outputs, classes):
    (found,) = classified(y, outputs)
    assert found.targets.tolist() == classes
    assert found.num_classes == max(outputs.shape[1], 2)


@pytest.mark.parametrize(
    ("y", "outputs"),
    [
        (ONES + 0.5, ONE),
        (ONES + 1, ONE),
        (ONES - 1, THREE),
        (ONES + 2, THREE),
        (np.ones((3, 3)), THREE),
        (np.ones((3, 2)), THREE),
        (np.eye(3), np.zeros((3, 4, 3))),
        (np.array(["a", "b", "c"]), THREE),
        (None, THREE),
        ({"other": ONES}, {"label": THREE}),
        ((ONES, ONES), THREE),
    ],
    ids=[
        "fractions", "third of two", "negative", "fourth of three", "many-hot", "other width",
        "images", "texts", "no targets", "other names", "other number",
    ],
)  # fmt: skip
def test_other_outputs_are_not(y, outputs):
    assert classified(y, outputs) == []


def test_outputs_go_with_their_targets_by_name_or_by_position():
    by_name = classified({"b": ONES, "a": ONES + 0.5}, {"a": ONE, "b": ONE})
    by_position = classified((ONES, ONES), [THREE, ONE], ["kind", "side"])
    unnamed = classified((ONES, ONES), [THREE, ONE])
    assert [found.name for found in by_name] == ["b"]
    assert [(f.name, f.num_classes) for f in by_position] == [("kind", 3), ("side", 2)]
    assert [found.name for found in unnamed] == ["output 1", "output 2"]


@pytest.mark.parametrize("given", [THREE, ONE])
def test_probabilities_are_as_given(given):
    (found,) = classified(ONES, given)
    assert found.look_like_probabilities
    likely = found.probabilities(of_logits=False)
    assert likely[:, -1] == pytest.approx(given[:, -1])
    assert likely.sum(axis=1) == pytest.approx(1)


@pytest.mark.parametrize("given", [np.log(THREE) + 5, np.log(ONE / (1 - ONE))])
def test_logits_become_probabilities(given):
    (found,) = classified(ONES, given)
    assert not found.look_like_probabilities
    expected = THREE if given.shape[1] == 3 else np.concatenate([1 - ONE, ONE], axis=1)
    assert found.probabilities(of_logits=True) == pytest.approx(expected)


def test_large_logits_overflow_nowhere():
    (found,) = classified(ONES, THREE * 1e6)
    assert found.probabilities(of_logits=True).sum(axis=1) == pytest.approx(1)


@pytest.mark.parametrize(
    ("output", "num_classes", "names"),
    [
        ("label", 3, ("cat", "dog", "owl")),
        ("dense", 3, ("cat", "dog", "owl")),
        ("dense", 2, ("left", "right")),
        ("dense", 4, ("0", "1", "2", "3")),
    ],
)
def test_classes_have_the_names_of_the_feature_that_fits(output, num_classes, names):
    assert names_of(output, num_classes, KNOWN) == names


def test_names_of_one_of_two_features_alike_are_those_of_the_output():
    known = {"left": ("a", "b"), "right": ("c", "d")}
    assert names_of("right", 2, known) == ("c", "d")
    assert names_of("other", 2, known) == ("0", "1")


def test_a_long_name_is_cut():
    assert names_of("a", 1, {"a": ("x" * 50,)}) == ("x" * 19 + "…",)
