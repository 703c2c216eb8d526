"""`engine: fit`: plain `keras.Model.fit` on the same batches, as the reference for our loop.

One device only (Keras 3's fit does not run across workers), and it saves and resumes at the
ends of epochs, because fit cannot begin inside one.
"""

from dataclasses import replace
from typing import Any

import keras

from trainer.checkpoint.position import Position, Schedule
from trainer.data.pipeline import Pipeline
from trainer.errors import ConfigError
from trainer.loop import Boundary


class _EpochEnd(keras.callbacks.Callback):  # type: ignore[misc]
    """Hands each epoch's end to the run's boundary, after all other callbacks."""

    def __init__(self, boundary: Boundary, steps_per_epoch: int) -> None:
        super().__init__()
        self._boundary = boundary
        self._steps_per_epoch = steps_per_epoch
        self.position = Position()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self.position = Position(
            step=(epoch + 1) * self._steps_per_epoch,
            epoch_logs={name: float(value) for name, value in (logs or {}).items()},
            stop_training=bool(self.model.stop_training),
        )
        self._boundary.after_epoch(self.position)


def fit(
    model: Any,
    pipeline: Pipeline,
    validation: Pipeline | None,
    schedule: Schedule,
    position: Position,
    *,
    callbacks: list[Any],
    boundary: Boundary,
) -> Position:
    """Train from `position` to the schedule's end; returns where training ended.

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
    if position.is_over(schedule.target_step):
        return position
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


def _examples(pipeline: Pipeline, start_step: int, *, num_passes: int | None = None) -> Any:
    """Examples without the scale, which is 1 on one replica."""
    dataset = pipeline.dataset(start_step, num_passes=num_passes)
    return dataset.map(lambda examples, _scale: examples)
