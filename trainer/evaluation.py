"""Validation and test passes: every record of a split once."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import keras
import tensorflow as tf

from trainer.agreement import Agreement
from trainer.backends import this_backend
from trainer.calls import Logs, Step, check_number, pass_steps
from trainer.data.batches import BatchPipeline
from trainer.data.dataset import TrainingData
from trainer.data.order import records_of_step
from trainer.data.pipeline import Pipeline, Place
from trainer.errors import ConfigError
from trainer.steps import Steps


class Evaluator:
    """Runs a model's `test_step` over splits; what is compiled and cached is kept for the next."""

    def __init__(
        self, model: Any, strategy: Any, dataset: TrainingData, place: Place, *,
        check: Callable[[Any], None] | None = None, agreement: Agreement | None = None,
    ) -> None:  # fmt: skip
        self.model = model
        self._strategy = strategy
        self._dataset = dataset
        self._place = place
        self._check = check
        self._agreement = agreement
        self._steps: dict[Step | None, Steps] = {None: self._compiled("test_step")}
        self._pipelines: dict[str, Pipeline | BatchPipeline] = {}
        self._passes: dict[str, Any] = {}
        self._outputs = this_backend().make_predict(model)

    def pipeline(self, split: str) -> Pipeline | BatchPipeline:
        """The pipeline over a split or slice."""
        if split not in self._pipelines:
            self._pipelines[split] = self._dataset.evaluation(split, self._place)
        return self._pipelines[split]

    def evaluate(
        self, split: str, *, callbacks: Any = None, between: Callable[[], None] = lambda: None
    ) -> dict[str, float]:
        """Metrics by name over a split or slice; `between` is called between compiled calls."""
        logs: Logs = {}
        for logs, _ in self.steps(split, callbacks=callbacks, between=between):  # noqa: B007
            pass
        return logs

    def steps(
        self, split: str, step: Step | None = None, *,
        callbacks: Any = None, between: Callable[[], None] = lambda: None,
    ) -> Iterator[tuple[Logs, int]]:  # fmt: skip
        """(logs, number of records) of each step of a pass; `step` in place of `test_step`."""
        pipeline = self.pipeline(split)
        if step not in self._steps:
            check_number(self._steps)
            self._steps[step] = self._compiled(step)
        if split not in self._passes:
            # Kept, because tracing its functions takes as long as some passes.
            self._passes[split] = pipeline.dataset(num_passes=1)
        iterator = iter(self._passes[split])
        try:
            passed = pass_steps(
                self.model, self._steps[step], iterator, pipeline.order.steps_per_epoch,
                callbacks=callbacks, between=between,
            )  # fmt: skip
            for index, logs in enumerate(passed):
                yield logs, records_of_step(pipeline.order, index)
        except Exception as error:
            raise pipeline.explain(error) from error

    def _compiled(self, step: Any) -> Steps:
        return this_backend().make_steps(
            self.model, self._strategy, step, check=self._check, agreement=self._agreement
        )

    def predict(self, split: str) -> Iterator[tuple[Any, Any, Any]]:
        """(x, y, outputs) of a split's records in order, a batch at a time.

        This worker alone computes all of them, and changes no variable of the model. Raises
        ConfigError for data of a script that is read in order.
        """
        # Whatever this worker's share is when all evaluate, from the same memory.
        pipeline = replace(self.pipeline(split), place=Place())
        if isinstance(pipeline, BatchPipeline) and pipeline.batches.is_in_order:
            raise ConfigError(
                "data that is read in order cannot be looked at beside training, as pictures of it "
                "do: validation would go on behind what they have read, so give arrays or a "
                "PyDataset as validation_data"
            )
        try:
            for examples, _ in pipeline.dataset(num_passes=1):
                x, y, _ = keras.utils.unpack_x_y_sample_weight(examples)
                yield x, y, self._outputs(x)
        except tf.errors.OpError as error:
            raise pipeline.explain(error) from error
