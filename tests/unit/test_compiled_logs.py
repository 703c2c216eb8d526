"""What a step may return as its logs."""

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from trainer.errors import ConfigError
from trainer.steps import flat_logs


def test_numbers_by_name() -> None:
    logs = flat_logs({"loss": tf.constant(1.0), "m": {"a": 2, "b": np.ones([1])}})
    assert sorted(logs) == ["a", "b", "loss"]


@pytest.mark.parametrize(
    ("logs", "message"),
    [
        (None, "it returned nothing"),
        ([1.0], "it returned a list"),
        ({"loss": np.zeros([4, 2])}, r"loss has the shape \(4, 2\)"),
        ({1: 2.0, "loss": 3.0}, "one has the name 1"),
    ],
)
def test_anything_else_is_refused(logs: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        flat_logs(logs)
