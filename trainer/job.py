"""What a worker is given, and what it builds from it before it restores anything."""

import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from trainer.agreement import Agreement
from trainer.callbacks.run_info import RunInfo
from trainer.checkpoint.state import ModelState
from trainer.config import RunConfig
from trainer.data.dataset import TrainingData
from trainer.data.pipeline import Place
from trainer.evaluation import Evaluator
from trainer.goodput import CauseClock
from trainer.metrics import Metrics
from trainer.recipes.base import Params, Recipe
from trainer.run.run_dir import RunDir
from trainer.stop import StopRequest


@dataclass(frozen=True)
class Job:
    """A checked configuration and everything outside that a worker needs."""

    config: RunConfig
    recipe: Recipe
    params: Params
    run: RunDir
    metrics: Metrics
    log: Any
    stop: StopRequest
    console: Any = None
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)
    clock: Callable[[], float] = time.monotonic
    # Of a script that trains several times: saved with each checkpoint, and the steps of those
    # checkpoints that the ends of its earlier trainings are in.
    script: Mapping[str, Any] | None = None
    kept_steps: frozenset[int] = frozenset()
    # Told the step between two calls, and without one at each stage.
    on_progress: Callable[..., None] = lambda _step=None: None
    # Told of each committed checkpoint, by the thread that saves.
    on_saved: Callable[[], None] = lambda: None
    # What this life's seconds go to, and the highest step that an earlier one had made.
    goodput: CauseClock = field(default_factory=CauseClock)
    reached: int = 0


@dataclass(frozen=True)
class Assembled:
    """A model with all its variables, on its devices, beside its data."""

    strategy: Any
    dataset: TrainingData
    place: Place
    model: Any
    sample: Any
    state: ModelState
    evaluator: Evaluator
    agreement: Agreement


def run_info(
    job: Job, assembled: Assembled, *, step: int, is_resumed: bool, writes: bool
) -> RunInfo:
    """What callbacks may know of the run; all workers ask, because the first one tells its id."""
    order = assembled.dataset.training_order()

    def predict(split: str) -> Iterator[tuple[Any, Any, Any]]:
        for batch in assembled.evaluator.predict(split):
            job.on_progress()
            yield batch

    return RunInfo(
        name=job.config.run_name,
        id=assembled.agreement.of_chief(job.run.id if assembled.place.is_chief else ""),
        config=job.config.model_dump(mode="json"),
        url=job.run.url,
        step=step,
        is_resumed=is_resumed,
        writes=writes,
        storage=job.run.storage,
        validation=job.config.data.validation,
        batch_size=order.batch_size,
        num_records=order.num_records,
        output_names=tuple(getattr(assembled.model, "output_names", None) or ()),
        class_names=assembled.dataset.class_names,
        count=assembled.dataset.count,
        predict=predict,
    )
