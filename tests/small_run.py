"""What a callback is told of a run, for tests without one."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from tests.small_storage import MemoryStorage
from trainer.callbacks.run_info import RunInfo
from trainer.errors import ConfigError

# x, y and what a model makes of x, for all records.
Batches = Sequence[tuple[Any, Any, Any]]


def run_info(batches: Batches = (), **fields: Any) -> RunInfo:
    """A run whose split `test` has these records; 30 records an epoch in steps of 8."""

    def count(split: str) -> int:
        if split != "test":
            raise ConfigError(f"no split {split}")
        return sum(len(np.asarray(x)) for x, _, _ in batches)

    def predict(split: str) -> Iterator[tuple[Any, Any, Any]]:
        assert split == "test"
        return iter(batches)

    defaults: dict[str, Any] = {
        "name": "demo", "id": "0123456789abcdef", "config": {"train": {"epochs": 2}},
        "url": "memory", "step": 0, "is_resumed": False, "writes": True, "storage": MemoryStorage(),
        "validation": "test", "batch_size": 8, "num_records": 30, "output_names": (),
        "class_names": dict, "count": count, "predict": predict,
    }  # fmt: skip
    return RunInfo(**(defaults | fields))
