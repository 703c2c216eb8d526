"""`trainer.fit`: as Keras' method of this name, of which each life of a script goes on."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import keras

from trainer.checkpoint.position import Position, Schedule
from trainer.checkpoint.state import ModelState
from trainer.checkpoint.store import Checkpoint
from trainer.config import RunConfig
from trainer.data.pipeline import Place
from trainer.errors import CheckpointError, ConfigError
from trainer.job import Job
from trainer.recipes.script import script_recipe
from trainer.script.arrays import split_arrays
from trainer.script.fit_data import VALIDATION, Fed, FitData, feed, whole
from trainer.script.measures import as_loud_as, assemble, flat
from trainer.script.orders import Shuffle
from trainer.script.processes import current, leaving, reading
from trainer.script.session import Call, Session
from trainer.training import Training, position_of
from trainer.worker import check_model, schedule_of

_WAY_OUT = (
    "make the same model (in a notebook, keras.utils.clear_session() lets Keras count its names "
    "from the beginning), or use another run.dir"
)
# Keys of an order, beside the run's seed and the number of the call.
_SHUFFLE = 3


def fit(
    model: Any, x: Any = None, y: Any = None, batch_size: int | None = None, epochs: int = 1,
    verbose: str | int = "auto", callbacks: Sequence[Any] | None = None,
    validation_split: float = 0.0, validation_data: Any = None, shuffle: Shuffle = True,
    class_weight: Mapping[int, float] | None = None, sample_weight: Any = None,
    initial_epoch: int = 0, steps_per_epoch: int | None = None,
    validation_steps: int | None = None, validation_batch_size: int | None = None,
    validation_freq: int = 1,
) -> Any:  # fmt: skip
    """Train `model` as `model.fit` does, and go on where an earlier life of the script stopped.

    Arguments and the returned `History` are those of `keras.Model.fit`; `batch_size` is that of
    all workers together. Arrays and a `PyDataset` go on at any step, other data at the ends of
    epochs.

    Raises ConfigError for what cannot be kept, and CheckpointError when the run's call of this
    number was another one.
    """
    session = current()
    with session.calling(), reading(x, validation_data):
        config = session.job.config
        check_model(model, config)
        parts, held_out = (x, y, sample_weight), validation_data
        if validation_split and validation_data is None:
            parts, held_out = split_arrays(parts, validation_split, "x")
        fed = feed(
            parts, batch_size=batch_size, code="x of trainer.fit", shuffle=shuffle,
            key=(config.train.seed, session.number, _SHUFFLE),
            steps=steps_per_epoch, class_weight=class_weight, on_read=session.job.on_progress,
        )  # fmt: skip
        validation = None
        if held_out is not None:
            validation = _feed_validation(
                held_out, validation_batch_size or batch_size, validation_steps,
                session.job.on_progress,
            )  # fmt: skip
        first_epoch = whole("initial_epoch", initial_epoch, least=0)
        validate_every = whole("validation_freq", validation_freq)
        data = FitData(fed, validation, config.train.threads, first_epoch, validate_every)
        config = _config_of(config, data, epochs=whole("epochs", epochs, least=0))
        _check_share(fed, config, session.place)
        with session.job.goodput.cause("restore"):
            call = session.begin(_said(model, data))
        own = flat(callbacks)
        job = session.job_of(call, config=config, recipe=script_recipe(lambda _params: own))
        with leaving(job.stop):
            return _train(session, call, as_loud_as(job, verbose), data, model)


def _train(session: Session, call: Call, job: Job, data: FitData, model: Any) -> Any:
    where = "any step" if data.fed.is_anywhere else "the ends of epochs"
    steps = data.fed.order.steps_per_epoch
    job.log.info("fit", call=call.number, steps_per_epoch=steps, goes_on_at=where)
    _tell_what_is_ignored(model, job.log)
    assembled = assemble(session, job, data, model)
    first = Position(step=data.first_epoch * steps)
    schedule = replace(
        schedule_of(job.config, steps, first_step=call.first_step - first.step),
        saves_inside=data.fed.is_anywhere,
    )
    begins_at = first
    if call.restored.checkpoint is not None:
        call = _with_own_names(call, call.restored.checkpoint, assembled.state)
        begins_at = position_of(call.restored.checkpoint)
    _check_end(call, begins_at, schedule)
    _tell_restore(session, job, call, schedule.first_step + begins_at.step)
    micro_batches = job.config.train.accumulate_steps
    pipeline = data.training(session.place, micro_batches=micro_batches)
    training = Training(
        job, assembled, pipeline, schedule, call.restored,
        first=first, follows=call.number > 1, world_sizes=session.world_sizes,
    )  # fmt: skip
    is_over = begins_at.is_over(schedule.target_step)
    data.passed(begins_at, reads=not is_over)
    session.train(call, model, is_over=is_over)
    position = training.run()
    data.passed(position, reads=False)
    session.world_sizes = training.world_sizes
    report = {
        "logs": position.epoch_logs, "history": training.history,
        "epochs": position.epochs_ended(steps), "stopped_early": position.stop_training,
    }  # fmt: skip
    session.end(call, model, schedule.first_step + position.step, report)
    # What the script draws from here on is the same, whether this call trained or was over.
    keras.utils.set_random_seed(job.config.train.seed + call.number)
    model.history = training.history_callback
    return training.history_callback


def _with_own_names(call: Call, found: Checkpoint, state: ModelState) -> Call:
    """The call, whose checkpoint fits the model. Raises CheckpointError for another one's."""
    found = replace(found, arrays=state.named(found.arrays))
    state.check(found.arrays, way_out=_WAY_OUT)
    return replace(call, restored=replace(call.restored, checkpoint=found))


def _tell_what_is_ignored(model: Any, log: Any) -> None:
    for name, usual, instead in (
        ("run_eagerly", False, "calls of steps are compiled"),
        ("steps_per_execution", 1, "train.steps_per_call says how many steps a call has"),
    ):
        value = getattr(model, name, usual)
        if value != usual:
            log.warning("ignored", argument=f"compile({name}={value})", reason=instead)


def _feed_validation(
    given: Any, batch_size: int | None, steps: int | None, on_read: Callable[[], None]
) -> Fed:
    code = "validation_data"
    x, y, weight = given, None, None
    if isinstance(given, tuple | list):
        x, y, weight = keras.utils.unpack_x_y_sample_weight(tuple(given))
    is_own_batches = not (isinstance(given, tuple | list) or hasattr(given, "__array__"))
    return feed(
        (x, y, weight), batch_size=None if is_own_batches else batch_size, code=code, steps=steps,
        on_read=on_read,
    )  # fmt: skip


def _config_of(config: RunConfig, data: FitData, *, epochs: int) -> RunConfig:
    """What the arguments of `fit` say, where a recipe's configuration says it."""
    of_data = {
        "batch_size": data.fed.order.batch_size,
        "validation": VALIDATION if data.validation is not None else None,
    }
    of_training = {"epochs": epochs, "validate_every": data.validate_every}
    return config.model_copy(
        update={
            "data": config.data.model_copy(update=of_data),
            "train": config.train.model_copy(update=of_training),
        }
    )


def _said(model: Any, data: FitData) -> dict[str, Any]:
    """What must be the same in each life of a call; weights and optimizer are compared, too."""
    optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    said = {"model": type(model).__name__, "optimizer": type(optimizer).__name__, **data.fed.said}
    # The position of a checkpoint is counted from it.
    return said | ({"initial_epoch": data.first_epoch} if data.first_epoch else {})


def _check_share(fed: Fed, config: RunConfig, place: Place) -> None:
    parts = place.num_replicas * config.train.accumulate_steps
    if fed.order.batch_size % parts:
        below = fed.order.batch_size // parts * parts
        fits = " or ".join(str(size) for size in (below, below + parts) if size)
        raise ConfigError(
            f"batches of {fed.order.batch_size} records cannot be shared by {parts} replicas and "
            f"micro-batches alike: use a multiple, as in {fits}"
        )


def _check_end(call: Call, position: Position, schedule: Schedule) -> None:
    """CheckpointError when a call that had ended is asked for more."""
    if call.is_ended and not position.is_over(schedule.target_step):
        raise CheckpointError(
            f"call {call.number} of trainer.fit ended at its step {position.step} of "
            f"{schedule.target_step} now, and call {call.number + 1} was begun after it: give it "
            "its epochs back, or use another run.dir"
        )


def _tell_restore(session: Session, job: Job, call: Call, step: int) -> None:
    """Once in each life: where it goes on. What had ended before is said to have ended."""
    if call.is_ended:
        job.log.info("fit has ended", call=call.number, step=step)
        return
    checkpoint = call.restored.checkpoint
    if checkpoint is not None:
        job.metrics.checkpoint_restores.inc()
    if session.is_on:
        return
    session.is_on = True
    if checkpoint is None:
        job.log.info("restore", step=step, reason="no checkpoint of this call yet")
        job.run.events.add("restore", step=step, call=call.number)
        return
    job.log.info("restore", step=step, sha256=checkpoint.manifest.sha256[:12], call=call.number)
    job.run.events.add("restore", step=step, fence=checkpoint.manifest.fence, call=call.number)
