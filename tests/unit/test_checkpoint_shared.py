"""Which arrays of another model a new one starts with."""

import pytest

from trainer.checkpoint.shared import match_shared
from trainer.errors import CheckpointError

WIDE, NARROW = "float32 (4, 8)", "float32 (4, 3)"
FULL = {"model/0000/a/kernel": WIDE, "model/0001/a/bias": NARROW, "model/0002/b/kernel": WIDE}


def numbered(*paths, kind=WIDE):
    """Arrays of these paths, in this order."""
    return {f"model/{ordinal:04d}/{path}": kind for ordinal, path in enumerate(paths)}


def test_paths_are_matched_wherever_they_stand():
    shared = match_shared(numbered("new", "b", "a"), numbered("a", "b", "old"))
    assert shared.taken == {"model/0001/b": "model/0001/b", "model/0002/a": "model/0000/a"}
    assert (shared.fresh, shared.unused) == (["model/0000/new"], ["model/0002/old"])


@pytest.mark.parametrize("other", [NARROW, "float16 (4, 8)"])
def test_another_shape_or_type_is_not_taken(other):
    shared = match_shared(FULL, FULL | {"model/0000/a/kernel": other})
    assert list(shared.taken) == ["model/0001/a/bias", "model/0002/b/kernel"]
    assert shared.fresh == shared.unused == ["model/0000/a/kernel"]


def test_a_path_that_is_there_twice_is_matched_in_order():
    shared = match_shared(numbered("new", "c", "c"), numbered("c", "c"))
    assert shared.taken == {"model/0001/c": "model/0000/c", "model/0002/c": "model/0001/c"}


@pytest.mark.parametrize(("ours", "theirs"), [(2, 1), (1, 2), (3, 2)])
def test_a_path_that_is_there_more_often_on_one_side_is_refused_by_name(ours, theirs):
    with pytest.raises(CheckpointError, match=rf"'c' {ours} times, the checkpoint {theirs} times"):
        match_shared(numbered("a", *["c"] * ours), numbered("a", *["c"] * theirs))


def test_a_path_of_one_side_alone_may_be_there_twice():
    shared = match_shared(numbered("a", "c", "c"), numbered("a", "d", "d"))
    assert (len(shared.taken), len(shared.fresh), len(shared.unused)) == (1, 2, 2)


def test_nothing_in_common_is_refused_with_both_sides():
    with pytest.raises(CheckpointError) as caught:
        match_shared(numbered("a"), numbered("a", "b", kind=NARROW))
    assert f"checkpoint: a {NARROW}, b {NARROW}\n  model: a {WIDE}" in str(caught.value)


def test_the_log_names_few_and_counts_all():
    many = numbered("a", *map(str, range(20)))
    told = match_shared(many, numbered("a")).for_log()
    assert (told["num_taken"], told["num_fresh"], told["num_unused"]) == (1, 20, 0)
    assert (told["taken"], told["fresh"][-1], len(told["fresh"])) == (["a"], "and 8 more", 13)
