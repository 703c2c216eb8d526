"""Validation and test passes: every record of a split once."""

from collections.abc import Callable
from typing import Any

from trainer.agreement import Agreement
from trainer.backends import this_backend
from trainer.data.dataset import Dataset
from trainer.data.pipeline import Pipeline, Place
from trainer.loop import run_pass


class Evaluator:
    """Runs a model's `test_step` over splits; what is compiled and cached is kept for the next."""

    def __init__(
        self, model: Any, strategy: Any, dataset: Dataset, place: Place, *,
        check: Callable[[Any], None] | None = None, agreement: Agreement | None = None,
    ) -> None:  # fmt: skip
        self.model = model
        self._strategy = strategy
        self._dataset = dataset
        self._place = place
        self._steps = this_backend().make_steps(
            model, strategy, "test_step", check=check, agreement=agreement
        )
        self._pipelines: dict[str, Pipeline] = {}
        self._passes: dict[str, Any] = {}

    def pipeline(self, split: str) -> Pipeline:
        """The pipeline over a split or slice."""
        if split not in self._pipelines:
            self._pipelines[split] = self._dataset.evaluation(split, self._place)
        return self._pipelines[split]

    def evaluate(
        self, split: str, *, callbacks: Any = None, between: Callable[[], None] = lambda: None
    ) -> dict[str, float]:
        """Metrics by name over a split or slice; `between` is called between compiled calls."""
        pipeline = self.pipeline(split)
        if split not in self._passes:
            # Kept, because tracing its functions takes as long as some passes.
            self._passes[split] = pipeline.dataset(num_passes=1)
        iterator = iter(self._passes[split])
        try:
            return run_pass(
                self.model, self._steps, iterator, pipeline.order.steps_per_epoch,
                callbacks=callbacks, between=between,
            )  # fmt: skip
        except Exception as error:
            raise pipeline.explain(error) from error
