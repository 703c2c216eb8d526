"""One life of one worker, from configuration to report; read `train` top to bottom.

    config -> cluster -> strategy -> data -> model -> restore -> callbacks -> train
    -> final save -> report

Each stage is logged under its name. Importing this module imports TensorFlow.
"""

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import keras
import tensorflow as tf

from trainer.callbacks.assemble import Chosen, Reporting, choose_callbacks
from trainer.callbacks.state import CallbackStates
from trainer.checkpoint.boundary import Checkpoints
from trainer.checkpoint.position import Position, Schedule
from trainer.checkpoint.saver import Saver
from trainer.checkpoint.state import ModelState
from trainer.checkpoint.store import Checkpoint
from trainer.cluster import read_cluster
from trainer.config import RunConfig
from trainer.data.dataset import Dataset, open_dataset
from trainer.data.pipeline import Pipeline, Place
from trainer.evaluation import Evaluator, distribute
from trainer.fit_engine import fit
from trainer.loop import CallResult, CompiledSteps, TrainLoop, build
from trainer.metrics import Metrics
from trainer.recipes.base import Params, Recipe
from trainer.report import report
from trainer.run_dir import RunDir
from trainer.stop import StopRequest
from trainer.strategy import make_strategy, prepare_process, seed_process
from trainer.versions import versions


@dataclass(frozen=True)
class Job:
    """What a worker is given; `changes` are the keys that this start changed in the run."""

    config: RunConfig
    recipe: Recipe
    params: Params
    run: RunDir
    metrics: Metrics
    log: Any
    stop: StopRequest
    console: Any = None
    changes: Mapping[str, Any] = field(default_factory=dict)
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)
    clock: Callable[[], float] = time.monotonic


@dataclass(frozen=True)
class Assembled:
    """A model with all its variables, on its devices, beside its data."""

    strategy: Any
    dataset: Dataset
    place: Place
    model: Any
    sample: Any
    state: ModelState
    evaluator: Evaluator


def train(job: Job) -> dict[str, Any]:
    """Train to the end and return the summary, which is then in the run's folder, too.

    Raises TrainerError of every kind; StoppedError when told to stop.
    """
    started = job.clock()
    job.metrics.set_run_info(job.config.run_name)
    job.metrics.set_build_info(**versions())
    job.log.info("config", run=job.config.run_name, recipe=job.config.recipe, dir=job.run.url)
    assembled = assemble(job)
    pipeline = assembled.dataset.training(assembled.place)
    schedule = schedule_of(job.config, pipeline.order.steps_per_epoch)
    position, checkpoint = _restore(job, assembled, schedule)
    session = _callbacks(job, assembled, pipeline, schedule, position)
    position = _train(job, assembled, pipeline, schedule, session, position, checkpoint)
    return report(
        job.config, job.run, job.log, assembled.evaluator, assembled.sample,
        position=position, history=session.chosen.history.history, state=assembled.state,
        seconds=job.clock() - started,
    )  # fmt: skip


def assemble(job: Job) -> Assembled:
    """cluster -> strategy -> data -> model: everything that exists before a restore."""
    config = job.config
    cluster = read_cluster(job.environ)
    job.log.info("cluster", worker=cluster.worker, num_workers=cluster.num_workers)
    devices = prepare_process(config)
    strategy = make_strategy(devices)
    # TensorFlow replaces signal handlers when it builds some strategies.
    job.stop.install()
    job.log.info("strategy", name=type(strategy).__name__, replicas=len(devices))
    place = Place(cluster.worker, cluster.num_workers, len(devices))
    dataset = open_dataset(
        config.data, job.recipe.data(job.params),
        seed=config.train.seed, threads=config.train.threads, on_bad=_on_bad_record(job),
    )  # fmt: skip
    sample = dataset.sample()
    job.log.info("data", url=config.data.url, content=dataset.manifest.content_hash[:12])
    seed_process(config.train)
    with strategy.scope():
        model = job.recipe.model(job.params)
        model.jit_compile = config.train.jit_compile
    build(model, strategy, sample)
    job.log.info("model", name=model.name, parameters=model.count_params())
    evaluator = Evaluator(model, strategy, dataset, place)
    return Assembled(strategy, dataset, place, model, sample, ModelState(model), evaluator)


def _on_bad_record(job: Job) -> Callable[[str, int, str], None]:
    def on_bad(file: str, offset: int, reason: str) -> None:
        job.metrics.data_bad_records.inc()
        job.log.warning("bad record replaced", file=file, offset=offset, reason=reason)

    return on_bad


def schedule_of(config: RunConfig, steps_per_epoch: int) -> Schedule:
    """How far a run goes, and by which strides."""
    per_call = config.train.steps_per_call
    return Schedule(
        epochs=config.train.epochs,
        steps_per_epoch=steps_per_epoch,
        steps_per_call=None if per_call == "auto" else per_call,
        # A signal is seen between two calls: leave most of the grace to the save.
        call_seconds=min(config.train.grace_seconds / 5, 1.0),
        validate_every=config.train.validate_every,
    )


def _restore(
    job: Job, assembled: Assembled, schedule: Schedule
) -> tuple[Position, Checkpoint | None]:
    """The position to go on from; the model is then in that state."""
    restored = job.run.restore(start_over=job.config.checkpoint.start_over)
    for reason in restored.skipped:
        job.metrics.checkpoint_fallbacks.inc()
        job.log.warning("checkpoint skipped", reason=reason)
    if restored.checkpoint is None:
        _warm_start(job, assembled.state)
        job.log.info("restore", step=0, reason="no checkpoint yet, starting at step 0")
        return Position(), None
    manifest = restored.checkpoint.manifest
    assembled.state.restore(restored.checkpoint.arrays)
    job.metrics.checkpoint_restores.inc()
    position = Position.from_json(manifest.state["position"])
    job.log.info(
        "restore", step=position.step, target_step=schedule.target_step, phase=position.phase,
        sha256=manifest.sha256[:12],
    )  # fmt: skip
    return position, restored.checkpoint


def _warm_start(job: Job, state: ModelState) -> None:
    origin = job.config.train.start_from
    if origin is None:
        return
    url, at, step = origin.rpartition("@")
    if not at:
        url, step = origin, "last"
    checkpoint = RunDir(url).checkpoint(step)
    state.restore_weights(checkpoint.arrays)
    job.log.info("warm start", origin=url, step=checkpoint.manifest.step)


@dataclass(frozen=True)
class _Session:
    """What lives for the time of training."""

    chosen: Chosen
    states: CallbackStates
    reporting: Reporting
    checkpoints: Checkpoints


def _callbacks(
    job: Job, assembled: Assembled, pipeline: Pipeline, schedule: Schedule, position: Position
) -> _Session:
    reporting = Reporting(
        metrics=job.metrics, log=job.log, console=job.console, config=job.config,
        order=pipeline.order, start=position.step, target=schedule.target_step,
    )  # fmt: skip
    chosen = choose_callbacks(job.config, job.recipe.callbacks(job.params), reporting)
    states = CallbackStates(chosen.resumable)
    saver = Saver(
        job.run.checkpoints, job.config.checkpoint, job.metrics, on_saved=reporting.on_saved
    )
    checkpoints = Checkpoints(
        state=assembled.state, capture_callbacks=states.capture, saver=saver,
        config=job.config.checkpoint, schedule=schedule, stop=job.stop,
        grace_seconds=job.config.train.grace_seconds, metrics=job.metrics, clock=job.clock,
    )  # fmt: skip
    job.log.info("callbacks", names=[type(callback).__name__ for callback in chosen.all])
    return _Session(chosen, states, reporting, checkpoints)


def _train(
    job: Job, assembled: Assembled, pipeline: Pipeline, schedule: Schedule, session: _Session,
    position: Position, checkpoint: Checkpoint | None,
) -> Position:  # fmt: skip
    """train -> final save; the returned position is committed."""
    job.log.info("train", step=position.step, target_step=schedule.target_step)

    def put_back() -> None:
        # After on_train_begin and, inside an epoch, on_epoch_begin: callbacks reset
        # themselves there, and may change the learning rate.
        if checkpoint is not None:
            _put_back(job, assembled, session, checkpoint)
            session.checkpoints.resume(position)

    train_with = _train_by_fit if job.config.train.engine == "fit" else _train_by_loop
    try:
        position = train_with(job, assembled, pipeline, schedule, session, position, put_back)
        job.log.info("final save", step=position.step)
        session.checkpoints.finish(position)
    except tf.errors.OpError as error:
        raise pipeline.explain(error) from error
    finally:
        session.reporting.close()
        session.checkpoints.close()
    return position


def _put_back(job: Job, assembled: Assembled, session: _Session, checkpoint: Checkpoint) -> None:
    assembled.state.restore(checkpoint.arrays)
    states = checkpoint.manifest.state["callbacks"]
    for name in session.states.restore(states, checkpoint.arrays):
        job.log.warning("callback is new to the run and starts afresh", name=name)
    rate = f"params.{job.recipe.learning_rate}"
    if rate in job.changes:
        assembled.model.optimizer.learning_rate = job.changes[rate][1]


def _train_by_loop(
    job: Job, assembled: Assembled, pipeline: Pipeline, schedule: Schedule, session: _Session,
    position: Position, put_back: Callable[[], None],
) -> Position:  # fmt: skip
    model, strategy = assembled.model, assembled.strategy
    callbacks = keras.callbacks.CallbackList(
        session.chosen.all, model=model, epochs=schedule.epochs, steps=schedule.steps_per_epoch
    )
    if job.config.train.steps_per_call == "auto" and session.chosen.need_every_step:
        schedule = replace(schedule, steps_per_call=1)
    split = job.config.data.validation

    def validate(between: Callable[[], None]) -> dict[str, float]:
        return assembled.evaluator.evaluate(split, callbacks=callbacks, between=between)

    def on_call(result: CallResult) -> None:
        job.stop.defer(True)
        session.reporting.on_call(result)

    loop = TrainLoop(
        model, CompiledSteps(model, strategy, "train_step"), schedule, session.checkpoints,
        callbacks=callbacks, validate=validate if split else None, on_call=on_call,
    )  # fmt: skip
    model.stop_training = False
    begin_training(callbacks, schedule, position, put_back)
    if not position.is_over(schedule.target_step):
        dataset = pipeline.dataset(position.step)
        position = loop.run(position, distribute(strategy, dataset, assembled.place))
    session.checkpoints.finish(position)
    # Nothing is lost from here on: a signal ends the process at once.
    job.stop.defer(False)
    end_training(model, callbacks, position)
    return position


def begin_training(
    callbacks: Any, schedule: Schedule, position: Position, put_back: Callable[[], None]
) -> None:
    """Callbacks reset themselves, and then everything is as it was when `position` was saved."""
    callbacks.on_train_begin()
    if position.is_inside_epoch(schedule.steps_per_epoch):
        callbacks.on_epoch_begin(position.epoch(schedule.steps_per_epoch))
    put_back()


def end_training(model: Any, callbacks: Any, position: Position) -> None:
    """As Keras' fit: averaged weights (EMA) take the place of the last ones, callbacks theirs."""
    model.optimizer.finalize_variable_values(model.trainable_weights)
    callbacks.on_train_end(dict(position.epoch_logs))


def _train_by_fit(
    job: Job, assembled: Assembled, pipeline: Pipeline, schedule: Schedule, session: _Session,
    position: Position, put_back: Callable[[], None],
) -> Position:  # fmt: skip
    split = job.config.data.validation
    last = keras.callbacks.LambdaCallback(on_train_begin=lambda _logs: put_back())
    return fit(
        assembled.model, pipeline, assembled.evaluator.pipeline(split) if split else None,
        schedule, position, callbacks=[*session.chosen.all, last], boundary=session.checkpoints,
    )  # fmt: skip
