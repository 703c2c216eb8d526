"""Whether an exported model's outputs are those of the model it was written from."""

from typing import Any

import numpy as np
import pytest

from trainer.export import _is_equal


@pytest.mark.parametrize(
    ("wanted", "got", "is_equal"),
    [
        ([1.0, float("-inf")], [1.0, float("-inf")], True),
        ([1.0, float("nan")], [1.0, float("nan")], True),
        ([1.0, 2.0], [1.0, float("inf")], False),
        ([1e6], [1e6 + 1.0], True),
        ([1.0], [1.001], False),
        ([True, False], [True, False], True),
        ([True, False], [True, True], False),
        ([b"a"], [b"b"], False),
    ],
)
def test_an_exported_models_outputs_are_compared(wanted: Any, got: Any, is_equal: bool) -> None:
    assert _is_equal(np.asarray(wanted), np.asarray(got)) == is_equal
