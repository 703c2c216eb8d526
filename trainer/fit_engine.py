"""`engine: fit`: plain `keras.Model.fit` on the same batches, as the reference for our loop.

One device only (Keras 3's fit does not run across workers), and it saves and resumes at the
ends of epochs, because fit cannot begin inside one.
"""

from dataclasses import replace
from typing import Any

import keras
import tensorflow as tf

from trainer.checkpoint.position import Position, Schedule
from trainer.data.batches import BatchPipeline
from trainer.data.pipeline import Pipeline
from trainer.errors import ConfigError
from trainer.loop import Boundary


class _EpochEnd(keras.callbacks.Callback):
    """Hands each epoch's end to the run's boundary, after all other callbacks."""

    def __init__(self, boundary: Boundary, steps_per_epoch: int) -> None:
        super().__init__()
        self._boundary = boundary
        self._steps_per_epoch = steps_per_epoch
        self.position = Position()
        self._steps = 0

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        self._steps = epoch * self._steps_per_epoch

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        # Counted, because a callback may stop training inside an epoch.
        self._steps += 1
        self._boundary.inside_epoch(self._steps)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        self.position = Position(
            step=self._steps,
            epoch_logs={name: float(value) for name, value in (logs or {}).items()},
            stop_training=bool(self.model.stop_training),
        )
        self._boundary.after_epoch(self.position)


def fit(
    model: Any,
    pipeline: Pipeline | BatchPipeline,
    validation: Pipeline | BatchPipeline | None,
    schedule: Schedule,
    position: Position,
    *,
    callbacks: list[Any],
    boundary: Boundary,
) -> Position:
    """Train from `position`, which is before the schedule's end; returns where training ended.

    Raises ConfigError for what fit cannot do: several replicas, or a start inside an epoch.
    """
    if pipeline.place.replicas > 1:
        raise ConfigError("train.engine: fit trains on one device: use the loop engine")
    epoch, inside = divmod(position.step, schedule.steps_per_epoch)
    if inside or position.phase != "train":
        raise ConfigError(
            f"train.engine: fit cannot go on from step {position.step}, inside an epoch: "
            "use train.engine=loop"
        )
    ends = _EpochEnd(boundary, schedule.steps_per_epoch)
    model.fit(
        _examples(pipeline, position.step),
        epochs=schedule.epochs,
        initial_epoch=epoch,
        steps_per_epoch=schedule.steps_per_epoch,
        validation_data=None if validation is None else _examples(validation, 0, num_passes=1),
        validation_freq=schedule.validate_every,
        callbacks=[*callbacks, ends],
        shuffle=False,
        verbose=0,
    )
    return replace(ends.position, phase="train")


def _examples(
    pipeline: Pipeline | BatchPipeline, start_step: int, *, num_passes: int | None = None
) -> Any:
    """Examples without their share, which is all on one replica."""
    dataset = pipeline.dataset(start_step, num_passes=num_passes)
    dataset = dataset.map(lambda examples, _share: examples)
    if num_passes is None:
        return dataset
    # Keras would find the end of a data set of unknown size by running out of it, and warn.
    steps = num_passes * pipeline.order.steps_per_epoch
    return dataset.apply(tf.data.experimental.assert_cardinality(steps))
