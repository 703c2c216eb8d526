"""From a checked configuration to a trained run: admitted, held, trained, and how it ended.

Imports no TensorFlow until a run has to be trained. Under an agent, the agent holds the run, has
waited for the stores and serves the metrics; alone, this process does all of it.
"""

import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

from prometheus_client import CollectorRegistry

import trainer
from trainer.backend import check_backend
from trainer.checkpoint.holder import this_holder
from trainer.cluster import read_cluster
from trainer.config import RunConfig
from trainer.errors import StoppedError
from trainer.goodput import CauseClock
from trainer.link import Link
from trainer.log import configure_logging, get_log, is_for_machines
from trainer.metrics import Metrics
from trainer.metrics.serving import serving
from trainer.preflight import check_data
from trainer.recipes.base import Params, Recipe
from trainer.run.run_dir import RunDir, checkpoint_of_origin
from trainer.script.config import Script
from trainer.stop import StopRequest
from trainer.storage import Storage, open_storage
from trainer.stores import DEADLINE_SECONDS, wait_for_stores
from trainer.tensorflow_start import importing_tensorflow


@dataclass(frozen=True)
class Launch:
    """A run as the command line gives it."""

    config: RunConfig
    recipe: Recipe
    params: Params
    allow_change: Sequence[str] = ()
    # Do no more than to find out whether it is; for an agent whose group may be gone already.
    if_complete: bool = False
    script: Script | None = None  # in place of a recipe


@dataclass(frozen=True)
class Outcome:
    """How a process ended: the summary of a complete run, or why it stopped."""

    exit_code: int
    summary: dict[str, Any] | None = None
    was_complete: bool = False
    message: str = ""


def check(start: Launch, open_storage: Callable[..., Storage] = open_storage) -> None:
    """Whether `launch` could go on with the run, which stays as it is.

    Raises DataError, ConfigError or CheckpointError.
    """
    check_backend(start.config)
    run = RunDir(start.config.run.dir, open_storage)
    data_hash = _data_hash(start, open_storage)
    run.check(start.config, type(start.params), data_hash, start.allow_change)
    if not _is_enough(run.summary(), start):
        run.check_goes_on(start_over=start.config.checkpoint.start_over)
    is_new = not any(found.committed for found in run.checkpoints.all())
    if is_new and start.config.train.start_from is not None:
        checkpoint_of_origin(start.config.train.start_from, open_storage)


def launch(
    start: Launch,
    stop: StopRequest,
    *,
    open_storage: Callable[..., Storage] = open_storage,
    link: Link | None = None,
) -> Outcome:
    """Train, or find that nothing is left to do; `link` leads to the agent, if there is one.

    Raises TrainerError; a stop by signal is an Outcome with the code of `StoppedError`.
    """
    config = start.config
    check_backend(config)
    configure_logging(as_json=is_for_machines(config.log))
    log = get_log()
    registry = CollectorRegistry()
    metrics = Metrics(registry, labels=config.metrics.labels)
    if link is None:
        wait_for_stores(config, open_storage, log)
    opened = partial(
        open_storage, deadline_seconds=DEADLINE_SECONDS, on_request=metrics.count_request
    )
    data_hash = _data_hash(start, opened)
    cluster = read_cluster(os.environ)
    run = RunDir(config.run.dir, opened, writes=cluster.worker == 0)
    reasons: list[str] = []

    def on_wait(reason: str) -> None:
        reasons.append(reason)
        log.warning("waiting for the run", reason=reason)

    holding: AbstractContextManager[RunDir] = nullcontext(run)
    if link is not None:
        holding = link.held(run, reasons.append)
    elif run.writes:
        holding = run.held(config.run.lease_seconds, on_wait)
    if (complete := _admissible(start, run, data_hash, log)) is not None:
        return complete
    if start.if_complete:
        return Outcome(StoppedError.exit_code)
    with holding as held:
        # Whoever held it until now may have ended it, or begun it with another configuration.
        complete = _admissible(start, held, data_hash, log) if reasons else None
        if complete is not None:
            return complete
        held.admit(config, type(start.params), data_hash, start.allow_change)
        with serving(config.metrics, registry, log) if link is None else link.relayed(registry):
            return _train(start, held, stop, log, metrics, link)


def _admissible(start: Launch, run: RunDir, data_hash: str, log: Any) -> Outcome | None:
    """Whether the run is complete. Raises unless it is, or may be gone on with."""
    config = start.config
    changes = run.check(config, type(start.params), data_hash, start.allow_change)
    summary = run.summary()
    if summary is not None and _is_enough(summary, start):
        if changes:
            log.warning("the run is complete: changes have no effect", keys=sorted(changes))
        log.info("complete", run=config.run_name, steps=summary["steps"])
        return Outcome(0, summary, was_complete=True)
    run.check_goes_on(start_over=config.checkpoint.start_over)
    return None


def _train(
    start: Launch, run: RunDir, stop: StopRequest, log: Any, metrics: Metrics, link: Link | None
) -> Outcome:
    config = start.config
    log.info("starting TensorFlow")  # for seconds, nothing else would be said
    with importing_tensorflow():
        from trainer.job import Job  # these bring TensorFlow
        from trainer.script.run import train_script
        from trainer.versions import machine, versions
        from trainer.worker import train

    job = Job(
        config, start.recipe, start.params, run, metrics, log, stop,
        console=None if is_for_machines(config.log) else _console(),
        on_progress=(lambda _step=None: None) if link is None else link.progress,
        on_saved=(lambda: None) if link is None else link.saved,
        goodput=CauseClock() if link is None else link.goodput,
        reached=0 if link is None else link.reached,
    )  # fmt: skip
    run.events.add(
        "start", holder=str(this_holder()), version=trainer.__version__, versions=versions(),
        machine=machine(),
    )  # fmt: skip
    try:
        summary = train(job) if start.script is None else train_script(job, start.script)
    except StoppedError as stopped:
        log.info("stopped", reason=str(stopped))
        run.events.add("stop", reason=str(stopped))
        return Outcome(stopped.exit_code, message=str(stopped))
    except Exception as error:
        run.events.add("failure", reason=f"{type(error).__name__}: {error}"[:2000])
        raise
    run.events.add("complete", step=summary["steps"])
    return Outcome(0, summary)


def _data_hash(start: Launch, open: Callable[[str], Storage]) -> str:
    """What the data is known by; a script's is compared when it calls `fit`."""
    return "" if start.script is not None else check_data(start.config, open=open).content_hash


def _is_enough(summary: dict[str, Any] | None, start: Launch) -> bool:
    if summary is None:
        return False
    if start.script is not None:
        # Another script, or other arguments, may have more to do.
        return bool(summary.get("script_sha256") == start.script.sha256)
    epochs = start.config.train.epochs
    return bool(summary.get("stopped_early")) or summary.get("epochs", 0) >= epochs


def _console() -> Any:
    from rich.console import Console  # a terminal is there

    return Console()
