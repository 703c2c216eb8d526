"""The model of a run, finished or not, as one of its checkpoints has it; nothing is trained.

Importing this module imports TensorFlow.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
from prometheus_client import CollectorRegistry

from trainer.callbacks.assemble import choose_callbacks
from trainer.callbacks.state import CallbackStates
from trainer.checkpoint.position import Position, Schedule
from trainer.checkpoint.store import Checkpoint
from trainer.export import export_model, writable
from trainer.job import Assembled, Job, run_info
from trainer.metrics import Metrics
from trainer.recipes.catalog import with_recipe
from trainer.run.run_dir import CONFIG_FILE, RunDir
from trainer.stop import StopRequest
from trainer.storage import Storage
from trainer.training import begin_training, end_training, position_of, put_back
from trainer.worker import assemble, schedule_of


@dataclass(frozen=True)
class TrainedModel:
    """A run's model on one device. `is_final`: it is what the run ends with."""

    job: Job
    assembled: Assembled
    step: int
    is_final: bool

    def evaluate(self, split: str) -> dict[str, float]:
        """Metrics by name over a split or slice."""
        return self.assembled.evaluator.evaluate(split)

    def export(self, to: Storage, formats: Sequence[str]) -> list[str]:
        """Write files; returns their URLs."""
        formats = writable(formats, self.job.log)
        return export_model(self.assembled.model, to, formats, self.assembled.sample[0])


def load_trained_model(run: RunDir, which: str | None, log: Any) -> TrainedModel:
    """Build the run's model and put a checkpoint into it: a step's number, `last` or `best`.

    By default the one that the run's own report uses (`export.weights`). Where training was
    over, averaged weights are in place and callbacks have ended it, as in that report.

    Raises ConfigError when there is none such, CheckpointError when it is damaged or of another
    model, DataError.
    """
    config, recipe, params = with_recipe(
        run.config().on_one_device(), source=f"{CONFIG_FILE} in {run.url}"
    )
    which = which or config.export.weights
    checkpoint = run.checkpoint(which)
    metrics = Metrics(CollectorRegistry())
    # Alone, in a pod of several workers, too: it is theirs to wait for each other.
    job = Job(config, recipe, params, run, metrics, log, StopRequest(), environ={})
    assembled = assemble(job)
    schedule = schedule_of(config, assembled.dataset.training_order().steps_per_epoch)
    position = position_of(checkpoint)
    log.info("restore", step=position.step, checkpoint=which)
    # The best checkpoint is an epoch's own weights, wherever training ended.
    is_final = which != "best" and position.is_over(schedule.target_step)
    if is_final:
        _finish(job, assembled, schedule, position, checkpoint)
    else:
        assembled.state.restore(checkpoint.arrays)
    return TrainedModel(job, assembled, position.step, is_final or _is_reported(job, which))


def _is_reported(job: Job, which: str) -> bool:
    return which == "best" == job.config.export.weights and job.run.summary() is not None


def _finish(
    job: Job, assembled: Assembled, schedule: Schedule, position: Position, checkpoint: Checkpoint
) -> None:
    """What a worker does that finds training over: begin, put everything back, end."""
    # Nothing is written for who only looks.
    run = run_info(job, assembled, step=position.step, is_resumed=True, writes=False)
    chosen = choose_callbacks(job.config, job.recipe.callbacks(job.params), run=run)
    states = CallbackStates(chosen.resumable)
    callbacks = keras.callbacks.CallbackList(
        chosen.resumable, model=assembled.model, epochs=schedule.epochs,
        steps=schedule.steps_per_epoch,
    )  # fmt: skip
    begin_training(
        callbacks, schedule, position,
        lambda: put_back(job, assembled, states, checkpoint, trains=False),
    )  # fmt: skip
    end_training(assembled.model, callbacks, position)
