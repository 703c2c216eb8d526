"""callbacks -> train -> final save, of an assembled model, from a restored position."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import keras

from trainer.backends import this_backend
from trainer.callbacks.assemble import Reporting, check_callbacks, choose_callbacks
from trainer.callbacks.state import CallbackStates
from trainer.calls import Logs, Step
from trainer.checkpoint.boundary import Captured, Checkpoints
from trainer.checkpoint.format import Manifest
from trainer.checkpoint.position import Position, Schedule
from trainer.checkpoint.restore import Restored
from trainer.checkpoint.saver import Bystander, Saver
from trainer.checkpoint.store import Checkpoint
from trainer.data.batches import BatchPipeline
from trainer.data.order import records_of_step
from trainer.data.pipeline import Pipeline
from trainer.errors import ConfigError, TrainerError
from trainer.export import check_export
from trainer.fit_engine import fit
from trainer.job import Assembled, Job, run_info
from trainer.loop import Own, TrainLoop, Validation
from trainer.step_times import StepTimes
from trainer.steps import CallResult, Steps
from trainer.stop import Interrupted
from trainer.user_code import NEVER_PASSING, describe, find_callback, find_place, user_code

_FIRST = Position()


class Training:
    """One stretch of training: from a checkpoint, or from `first`, to the end or to a stop.

    follows: another one came before in the run, whose last checkpoint is of the step that this
    one begins with. Raises ConfigError where that would have to be one of this training, too.
    """

    def __init__(
        self, job: Job, assembled: Assembled, pipeline: Pipeline | BatchPipeline,
        schedule: Schedule, restored: Restored, *,
        first: Position = _FIRST, follows: bool = False, world_sizes: Sequence[list[int]] = (),
    ) -> None:  # fmt: skip
        self._job = job
        self._assembled = assembled
        self._pipeline = pipeline
        self._checkpoint = restored.checkpoint
        self._start = first if restored.checkpoint is None else position_of(restored.checkpoint)
        self._reporting = Reporting(
            metrics=job.metrics, log=job.log, console=job.console, config=job.config,
            order=pipeline.order, start=self._start.step, schedule=schedule,
            run=job.run if assembled.place.is_chief else None,
        )  # fmt: skip
        with user_code(f"{job.config.what}: its callbacks function"):
            own = list(job.recipe.callbacks(job.params))
            check_callbacks(own)
        with user_code(f"{job.config.what}: its loop function"):
            body = job.recipe.loop(job.params)
        self._own = body and Own(body, self._steps, partial(records_of_step, pipeline.order))
        self._chosen = choose_callbacks(
            job.config, own, self._reporting,
            run_info(
                job, assembled, step=schedule.first_step + self._start.step,
                is_resumed=self._checkpoint is not None, writes=job.run.writes,
            ),
            assembled.agreement,
        )  # fmt: skip
        self._follows = follows
        if follows and self._chosen.appends:
            raise ConfigError(
                "CSVLogger(append=True) is for the first call of trainer.fit alone: give it a "
                "file of its own in each call after that, without append"
            )
        if self._chosen.is_step_by_step:
            schedule = replace(schedule, steps_per_call=1)
        self._schedule = schedule
        self.world_sizes = world_sizes_of(
            restored.checkpoint,
            schedule.first_step + self._start.step,
            assembled.place.num_workers,
            world_sizes,
        )
        kept = [self._own.memory] if self._own else []
        self._states = CallbackStates([*self._chosen.resumable, *kept])
        saver = Saver(
            job.run.checkpoints, job.config.checkpoint, job.metrics,
            damaged=restored.damaged, kept_steps=job.kept_steps, on_saved=self._on_saved,
            before_deleting=job.run.refresh_lease,
        ) if assembled.place.is_chief else Bystander()  # fmt: skip
        self._checkpoints = Checkpoints(
            job.config, capture=self._capture, saver=saver, schedule=schedule,
            agreement=assembled.agreement, metrics=job.metrics, look_up=self._look_up,
            goodput=job.goodput,
        )  # fmt: skip
        self._times = StepTimes(
            job.goodput, done=schedule.first_step + self._start.step, reached=job.reached,
            fetching=pipeline.fetching,
        )  # fmt: skip
        job.log.info("callbacks", names=self._chosen.names)

    @property
    def history_callback(self) -> Any:
        """Keras' History of the run so far, as its fit returns it."""
        return self._chosen.history

    @property
    def history(self) -> dict[str, list[float]]:
        """The metrics of every epoch of the run so far, by name."""
        return dict(self._chosen.history.history)

    def run(self) -> Position:
        """Train; the returned position is committed, and the model is as training leaves it."""
        first = self._schedule.first_step
        self._job.log.info(
            "train", step=first + self._start.step, target_step=first + self._schedule.target_step
        )
        # What follows training is the loop's either way: fit would leave it out.
        is_over = self._start.is_over(self._schedule.target_step)
        by_fit = self._job.config.train.engine == "fit" and not is_over
        if by_fit and self._own is not None:
            raise ConfigError(
                f"train.engine: fit cannot drive {self._job.config.what}, which has a "
                "loop of its own: set train.engine=loop"
            )
        if not is_over:
            check_export(self._assembled.model, self._job.config.export.formats)
        try:
            position = self._by_fit() if by_fit else self._by_loop()
            self._job.log.info("final save", step=first + position.step)
            return position
        except (TrainerError, Interrupted):
            raise
        except BaseException as error:  # an exit of a user's code is no end of a run
            raise self._explain(error) from error
        finally:
            self._reporting.close()
            self._checkpoints.close()

    def _explain(self, error: BaseException) -> BaseException:
        """The error of the data or of a user's code behind one that ended training."""
        if isinstance(error, Exception):
            explained = self._pipeline.explain(error)
            if explained is not error:
                return explained
        callback = find_callback(error)
        if callback is not None:
            return TrainerError(f"{callback} raised {describe(error)}")
        is_operation = hasattr(error, "error_code")
        if find_place(error) is None and not is_operation:
            return error
        steps = f"{self._job.config.what}: its {'loop' if self._own else 'model'}'s step"
        # While it runs, the same step may go well another time; while it is traced, it never does.
        may_pass = isinstance(error, this_backend().PASSING)
        if self._assembled.place.num_workers == 1:
            may_pass = may_pass and getattr(error, "error_code", None) not in NEVER_PASSING
        kind = TrainerError if may_pass else ConfigError
        return kind(f"{steps} raised {describe(error)}")

    def _by_loop(self) -> Position:
        model = self._assembled.model
        callbacks = keras.callbacks.CallbackList(
            self._chosen.all, model=model,
            epochs=self._schedule.epochs, steps=self._schedule.steps_per_epoch,
        )  # fmt: skip
        loop = TrainLoop(
            model, self._steps(), self._schedule, self._checkpoints,
            callbacks=callbacks, validation=self._validation(callbacks), on_call=self._on_call,
        )  # fmt: skip
        position = self._start
        model.stop_training = position.stop_training
        begin_training(callbacks, self._schedule, position, self._restore)
        if not position.is_over(self._schedule.target_step):
            dataset = self._pipeline.dataset(position.step)
            with self._job.goodput.cause("step"):
                position = loop.run(position, iter(dataset), self._own)
        self._checkpoints.commit(position)
        # Nothing is lost from here on: a signal ends the process at once.
        self._job.stop.defer(False)
        end_training(model, callbacks, position)
        return position

    def _steps(self, step: str | Step = "train_step") -> Steps:
        model, strategy = self._assembled.model, self._assembled.strategy
        steps = this_backend().make_steps(
            model, strategy, step, check=self._assembled.state.check_step,
            micro_batches=self._job.config.train.accumulate_steps,
            agreement=self._assembled.agreement,
            gradient_norm=self._job.config.train.gradient_norm,
        )  # fmt: skip
        return self._times.of(steps)

    def _validation(self, callbacks: Any) -> Validation | None:
        split = self._job.config.data.validation
        if split is None:
            return None
        steps, goodput = self._assembled.evaluator.steps, self._job.goodput

        def validate(step: Step | None, between: Callable[[], None]) -> Iterator[tuple[Logs, int]]:
            with goodput.cause("validation"):
                yield from steps(split, step, callbacks=callbacks, between=between)

        return validate

    def _look_up(self, step: int) -> None:
        self._job.on_progress(self._schedule.first_step + step)
        self._job.run.check_held()

    def _on_saved(self, manifest: Manifest, seconds: float) -> None:
        self._reporting.on_saved(manifest, seconds)
        self._chosen.on_saved()
        self._job.on_saved()

    def _on_call(self, result: CallResult) -> None:
        # Now there is work that a stop must save.
        self._job.stop.defer(True)
        self._reporting.on_call(result)

    def _by_fit(self) -> Position:
        # A signal waits for the end of a step, and for the save in flight: see fit_engine.
        self._job.stop.defer(True)
        split = self._job.config.data.validation
        last = keras.callbacks.LambdaCallback(on_train_begin=self._begin_fit)
        with self._job.goodput.cause("compile"):
            position = fit(
                self._assembled.model, self._pipeline,
                self._assembled.evaluator.pipeline(split) if split else None,
                self._schedule, self._start,
                callbacks=[self._times.of_fit(), *self._chosen.all, last],
                boundary=self._checkpoints,
            )  # fmt: skip
        self._checkpoints.commit(position)
        self._job.stop.defer(False)
        return position

    def _begin_fit(self, _logs: Any) -> None:
        dataset = self._pipeline.dataset(self._start.step)
        self._steps().check(iter(dataset))
        self._restore()

    def _capture(self, *, whole: bool) -> Captured:
        states, arrays = self._states.capture()
        state = self._assembled.state
        if whole:
            model = state.snapshot()
        else:
            model = state.copies() if self._chosen.swaps else state.untrained()
        return Captured(
            arrays=model | arrays,
            state={
                "backend": keras.backend.backend(),
                "callbacks": states,
                "learning_rates": state.built_rates,
                "world_sizes": self.world_sizes,
                **({"script": dict(self._job.script)} if self._job.script else {}),
            },
        )

    def _restore(self) -> None:
        """The state of the checkpoint, into model and callbacks; a warm start is made one."""
        with self._job.goodput.cause("restore"):
            self._restore_all()

    def _restore_all(self) -> None:
        if self._checkpoint is None:
            if self._follows and self._start.is_over(self._schedule.target_step):
                # Nothing was trained since the checkpoint of this step, which stays as it is.
                self._checkpoints.resume(self._start)
            elif self._job.config.train.start_from is not None or self._chosen.appends:
                # A restart begins with the same weights, whatever has become of the other run, and
                # with the files that are appended to as they were.
                self._checkpoints.commit(self._start)
            return
        trains = not self._start.is_over(self._schedule.target_step)
        put_back(self._job, self._assembled, self._states, self._checkpoint, trains=trains)
        self._checkpoints.resume(self._start)


def position_of(checkpoint: Checkpoint | None) -> Position:
    """Where a checkpoint was taken; step 0 without one."""
    if checkpoint is None:
        return Position()
    return Position.from_json(checkpoint.manifest.state["position"])


def world_sizes_of(
    checkpoint: Checkpoint | None, step: int, num_workers: int, before: Sequence[list[int]] = ()
) -> list[list[int]]:
    """[step, workers] of each change: those of the checkpoint, and of this life from `step` on.

    before: those that there were where there is no checkpoint.
    """
    known = checkpoint.manifest.state.get("world_sizes", [[0, 1]]) if checkpoint else before
    made = [change for change in known if change[0] < step]
    is_new = not made or made[-1][1] != num_workers
    return [*made, [step, num_workers]] if is_new else made


def put_back(
    job: Job, assembled: Assembled, states: CallbackStates, checkpoint: Checkpoint, *, trains: bool
) -> None:
    """Model, optimizer and callbacks as they were; a changed learning rate is set."""
    assembled.state.restore(checkpoint.arrays)
    saved = checkpoint.manifest.state
    for name in states.restore(saved["callbacks"], checkpoint.arrays, trains=trains):
        job.log.warning("callback is new to the run and starts afresh", name=name)
    # Compared with the rates that were configured then: callbacks may have lowered them since.
    assembled.state.set_changed_rates(saved["learning_rates"])


def begin_training(
    callbacks: Any, schedule: Schedule, position: Position, put_back: Callable[[], None]
) -> None:
    """Callbacks reset themselves, and then everything is as it was when `position` was saved.

    State comes last because on_train_begin, and on_epoch_begin inside an epoch, change it:
    callbacks start afresh there and schedules set the learning rate.
    """
    callbacks.on_train_begin()
    if position.is_inside_epoch(schedule.steps_per_epoch):
        callbacks.on_epoch_begin(position.epoch(schedule.steps_per_epoch))
    put_back()


def end_training(model: Any, callbacks: Any, position: Position) -> None:
    """As Keras' fit: averaged weights (EMA) take the place of the last ones, callbacks theirs."""
    model.optimizer.finalize_variable_values(model.trainable_weights)
    callbacks.on_train_end(dict(position.epoch_logs))
