"""What a callback may know of the run that it is in, and do there.

A callback with a method `set_run(run)`, ours or a user's, is given a `RunInfo` once in each life
of a worker: when the model is built, before its state is put back and before `on_train_begin`.
That is so on every worker, because all of them hold the same state; only one of them `writes`.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from trainer.storage import Storage


@dataclass(frozen=True)
class RunInfo:
    """One run, as its callbacks see it.

    name: as in logs and metrics.
    id: 16 hex digits, the same in each life, on each worker and at any number of them; "" for who
    only looks at a run of a version that had none.
    config: the configuration as it was resolved, of plain values; credentials are refused in it.
    url: the run's folder.
    step: of the run, that this life goes on from: 0 at the beginning.
    is_resumed: this life goes on from a checkpoint of an earlier one.
    writes: this worker writes files. No other does, nor who only looks at a trained model, or
    debugs a run.
    storage: the run's folder, local or `gs://`; see `write`.
    validation: the split or slice that is validated on, None without one.
    batch_size, num_records: of a step, and of an epoch of training.
    output_names: as Keras calls the model's outputs, none where it has no names for them.
    class_names: names of the classes of each feature that has such, as {"label": ("cat", "dog")};
    called, it reads them from the data set.
    count: a split or slice -> its records. ConfigError when there is none such.
    predict: a split or slice -> (x, y, outputs) of its records in order, a batch at a time, as
    tensors. The model is called here alone, as it is now: no other worker takes part, and none of
    its variables changes. So it may be called on one worker, where collective operations would
    hang: `model.evaluate`, or a metric's `result`.
    """

    name: str
    id: str
    config: Mapping[str, Any]
    url: str
    step: int
    is_resumed: bool
    writes: bool
    storage: Storage
    validation: str | None
    batch_size: int
    num_records: int
    output_names: tuple[str, ...]
    class_names: Callable[[], Mapping[str, tuple[str, ...]]]
    count: Callable[[str], int]
    predict: Callable[[str], Iterator[tuple[Any, Any, Any]]]

    @property
    def steps_per_epoch(self) -> int:
        """Steps of an epoch of training, of which the last may be smaller."""
        return -(-self.num_records // self.batch_size)

    def write(self, path: str, data: bytes) -> None:
        """Put a file into the run's folder, whole or not at all; nothing on other workers.

        Raises StorageError when the folder refuses it.
        """
        if self.writes:
            self.storage.write(path, data)


@runtime_checkable
class KnowsRun(Protocol):
    """A callback that wants to know of its run."""

    def set_run(self, run: RunInfo) -> None: ...
