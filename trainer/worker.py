"""One life of one worker, from configuration to report; read `train` top to bottom.

    config -> cluster -> strategy -> data -> model -> restore -> callbacks -> train
    -> final save -> report

Each stage is logged under its name. Importing this module imports TensorFlow.
"""

import math
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from trainer.agreement import Agreement, Alone, Group
from trainer.backend import TENSORFLOW
from trainer.backends import this_backend
from trainer.checkpoint.position import Schedule
from trainer.checkpoint.restore import Restored
from trainer.checkpoint.state import ModelState
from trainer.cluster import read_cluster
from trainer.config import RunConfig
from trainer.data.builtin import resolve_data_url
from trainer.data.dataset import TrainingData, open_dataset
from trainer.data.facts import read_facts
from trainer.data.pipeline import Place
from trainer.data.spec import DataSpec
from trainer.errors import ConfigError, TrainerError
from trainer.evaluation import Evaluator
from trainer.job import Assembled, Job
from trainer.models.build import build
from trainer.models.replicas import GroupReplicas, make_total
from trainer.report import report
from trainer.run.run_dir import checkpoint_of_origin
from trainer.strategy import make_strategy, prepare_process, seed_process
from trainer.training import Training, position_of
from trainer.user_code import user_code
from trainer.versions import versions


def train(job: Job) -> dict[str, Any]:
    """Train to the end and return the summary, which is then in the run's folder, too.

    Raises TrainerError of every kind; StoppedError when told to stop.
    """
    started = job.clock()
    tell_names(job)
    job.log.info("config", run=job.config.run_name, recipe=job.config.recipe, dir=job.run.url)
    assembled = assemble(job)
    job.on_progress()
    pipeline = assembled.dataset.training(
        assembled.place, micro_batches=job.config.train.accumulate_steps
    )
    schedule = schedule_of(job.config, pipeline.order.steps_per_epoch)
    with job.goodput.cause("restore"):
        restored = _restore(job, assembled, schedule)
    job.on_progress()
    job.run.reopen()
    training = Training(job, assembled, pipeline, schedule, restored)
    position = training.run()
    job.on_progress()
    with job.goodput.cause("checkpoint"):
        return report(
            job, assembled, position, history=training.history, world_sizes=training.world_sizes,
            seconds=job.clock() - started,
        )  # fmt: skip


def assemble(job: Job) -> Assembled:
    """cluster -> strategy -> data -> model: everything that exists before a restore."""
    config = job.config
    strategy, place = compute(job)
    if (problem := config.parts_problem(place.num_replicas, place.num_workers)) is not None:
        raise ConfigError(problem)
    params = _fit_to_data(job)
    with user_code(f"{config.what}: its data function"):
        spec = job.recipe.data(params)
    if not isinstance(spec, DataSpec):
        raise ConfigError(
            f"{config.what}: its data function must return a DataSpec, as in DataSpec(decode), not "
            f"a {type(spec).__name__}"
        )
    dataset = open_dataset(
        config.data, spec,
        seed=config.train.seed, threads=config.train.threads, on_bad=_on_bad_record(job),
        open=job.run.open,
    )  # fmt: skip
    sample = dataset.sample()
    job.log.info("data", url=config.data.url, content=dataset.manifest.content_hash[:12])
    # Once more: what was drawn since, as by a data function, must not change the weights.
    seed_process(config.train)
    with strategy.scope(), user_code(f"{config.what}: building its model"):
        model = job.recipe.model(params)
    check_model(model, config)
    return equip(job, strategy, place, dataset, sample, model)


def tell_names(job: Job) -> None:
    """Let metrics name the run, and the versions that train it."""
    job.metrics.set_run_info(job.config.run_name)
    job.metrics.set_build_info(**versions())


def compute(job: Job) -> tuple[Any, Place]:
    """cluster -> strategy: what this process computes on, and its place among the others."""
    config = job.config
    cluster = read_cluster(job.environ)
    job.log.info("cluster", worker=cluster.worker, num_workers=cluster.num_workers)
    devices = prepare_process(config)
    strategy = make_strategy(devices, cluster, config.cluster.communication)
    # TensorFlow replaces signal handlers when it builds some strategies.
    job.stop.install()
    job.log.info(
        "strategy", name=type(strategy).__name__.strip("_"), backend=keras.backend.backend(),
        device=devices[0].strip("/").partition(":")[0], replicas=strategy.num_replicas_in_sync,
    )  # fmt: skip
    return strategy, Place(cluster.worker, cluster.num_workers, len(devices))


def equip(
    job: Job, strategy: Any, place: Place, dataset: TrainingData, sample: Any, model: Any
) -> Assembled:
    """A model with all its variables, and what saves, evaluates and agrees.

    sample: one example of the data, as a batch of one.
    """
    with user_code(f"{job.config.what}: its model's test_step on one record"):
        build(model, strategy, sample)
    job.log.info("model", name=model.name, parameters=num_parameters(model))
    agreement, group = agree(job, strategy, place)
    state = ModelState(model, group=group)
    evaluator = Evaluator(
        model, strategy, dataset, place, check=state.check_step, agreement=agreement
    )
    return Assembled(strategy, dataset, place, model, sample, state, evaluator, agreement)


def num_parameters(model: Any) -> int:
    """Of all weights; `count_params` refuses a model without `call`."""
    return sum(math.prod(weight.shape) for weight in model.weights)


def agree(job: Job, strategy: Any, place: Place) -> tuple[Agreement, GroupReplicas | None]:
    """How this worker agrees with others, and its part of their replicas."""
    if place.num_workers == 1:
        return Alone(job.stop), None
    agreement = Group(
        job.stop, is_chief=place.is_chief, replicas=place.replicas,
        total=make_total(strategy, place.replicas), lost=tf.errors.OpError,
    )  # fmt: skip
    first = place.worker * place.replicas
    total = strategy.num_replicas_in_sync
    return agreement, GroupReplicas(strategy, first=first, count=place.replicas, total=total)


def _fit_to_data(job: Job) -> Any:
    """The parameters, or what the recipe makes of them and of what the data set tells."""
    if job.recipe.fit_to is None:
        return job.params
    facts = read_facts(job.run.open(resolve_data_url(job.config.data.url)))
    with user_code(f"{job.config.what}: its fit_to function"):
        return job.recipe.fit_to(job.params, facts)


def check_model(model: Any, config: RunConfig) -> None:
    """ConfigError for a model that cannot train."""
    # A model that was never compiled has no such attribute.
    if not isinstance(model, keras.Model) or getattr(model, "optimizer", None) is None:
        raise ConfigError(
            f"{config.what} must give a keras.Model with an optimizer (compile it, or equip a "
            f"TrainStepModel), not {type(model).__name__} without one"
        )
    is_scaled = isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    if config.train.precision == "mixed_float16" and not is_scaled:
        raise ConfigError(
            f"{config.what}: train.precision: mixed_float16 needs losses that are scaled, and its "
            "model's optimizer scales none: compile with auto_scale_loss=True, or wrap it in "
            "keras.optimizers.LossScaleOptimizer"
        )
    try:
        this_backend().check_model(model)
    except ConfigError as error:
        raise ConfigError(f"{config.what}: {error}") from error


def _on_bad_record(job: Job) -> Callable[[str, int, str], None]:
    def on_bad(file: str, offset: int, reason: str) -> None:
        job.metrics.data_bad_records.inc()
        job.log.warning("bad record replaced", file=file, offset=offset, reason=reason)

    return on_bad


def schedule_of(config: RunConfig, steps_per_epoch: int, *, first_step: int = 0) -> Schedule:
    """How far a run goes, and by which strides; `first_step` global steps were made before."""
    per_call, profile = config.train.steps_per_call, config.train.profile
    return Schedule(
        epochs=config.train.epochs,
        steps_per_epoch=steps_per_epoch,
        steps_per_call=None if per_call == "auto" else per_call,
        # A signal is seen between two calls: leave most of the grace to the save.
        call_seconds=min(config.train.grace_seconds / 5, 1.0),
        validate_every=config.train.validate_every,
        # So that a trace has just the steps that it is to be of.
        call_ends=tuple(
            step - first_step
            for step in (() if profile is None else (profile.steps[0] - 1, profile.steps[-1]))
        ),
        first_step=first_step,
    )


def _restore(job: Job, assembled: Assembled, schedule: Schedule) -> Restored:
    """The checkpoint to go on from; it is known to be of this model."""
    restored = job.run.restore(
        start_over=job.config.checkpoint.start_over, agreement=assembled.agreement
    )
    job.metrics.checkpoint_fallbacks.inc(len(restored.damaged))
    for reason in restored.reasons:
        job.log.warning("checkpoint skipped", reason=reason)
    if restored.checkpoint is None:
        begins = user_code(f"recipe {job.config.recipe}: its begin function")
        with begins, assembled.strategy.scope():
            job.recipe.begin(job.params, assembled.model)
        _warm_start(job, assembled)
        job.log.info("restore", step=0, reason="no checkpoint yet, starting at step 0")
        job.run.events.add("restore", step=0, skipped=restored.reasons)
        return restored
    manifest = restored.checkpoint.manifest
    # Put into the model when callbacks have begun: see `begin_training`.
    assembled.state.check(restored.checkpoint.arrays)
    job.metrics.checkpoint_restores.inc()
    position = position_of(restored.checkpoint)
    _tell_of_backend(job, manifest.state.get("backend", TENSORFLOW))
    job.log.info(
        "restore", step=position.step, target_step=schedule.target_step, phase=position.phase,
        sha256=manifest.sha256[:12],
    )  # fmt: skip
    job.run.events.add(
        "restore", step=position.step, fence=manifest.fence, skipped=restored.reasons
    )
    return restored


def _tell_of_backend(job: Job, was: str) -> None:
    """Another one goes on with the same state, but rounds, and draws noise, in its own way."""
    now = keras.backend.backend()
    if was != now:
        job.log.info("backend changed", was=was, now=now)
        job.run.events.add("backend changed", was=was, now=now)


def _warm_start(job: Job, assembled: Assembled) -> None:
    origin = job.config.train.start_from
    if origin is None:
        return
    checkpoint = checkpoint_of_origin(origin, job.run.open)
    if assembled.agreement.of_chief(checkpoint.manifest.sha256) != checkpoint.manifest.sha256:
        raise TrainerError(
            f"train.start_from {origin} has a newer checkpoint for this worker than for worker 0: "
            "it is trained at this moment; name a step, as in RUN_DIR@STEP"
        )
    found: dict[str, object] = {}
    if job.config.train.start_layers == "all":
        assembled.state.restore_weights(checkpoint.arrays)
    else:
        found = assembled.state.restore_shared(checkpoint.arrays).for_log()
    job.log.info("warm start", origin=origin, step=checkpoint.manifest.step, **found)
