"""Keeps the curves of a run, from the logs that training computes anyway."""

import time
from typing import Any

import keras

from trainer.callbacks.metrics import learning_rate
from trainer.models.replicas import local_values
from trainer.run.curve_store import RunCurves
from trainer.run.curves import Recorder
from trainer.steps import CallResult


class CurvesCallback(keras.callbacks.Callback):
    """Feeds a life's recorder: once a call, never once a step. `on_call` is the loop's."""

    def __init__(self, curves: RunCurves, recorder: Recorder) -> None:
        super().__init__()
        self._curves, self._recorder = curves, recorder

    def on_call(self, result: CallResult) -> None:
        """The steps of one call of the loop."""
        self._recorder.call(result.logs, result.ended.tolist(), result.waited.tolist())
        self._now_and_then()

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        """Time between epochs is no step's."""
        self._recorder.pause()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        """The epoch's logs, and the learning rate that they may have changed."""
        values = {name: float(value) for name, value in (logs or {}).items()}
        self._recorder.epoch(values, time.time())
        self._note_rate()

    def on_saved(self) -> None:
        """A checkpoint was committed; called by the saving thread."""
        self._curves.saved()

    def close(self) -> None:
        """Training ended, or broke off."""
        self._curves.close()

    def _now_and_then(self) -> None:
        if self._curves.write_if_due():
            self._note_rate()

    def _note_rate(self) -> None:
        if self._recorder.means is None:
            self._recorder.means = names_of_means(self.model)
        if (rate := learning_rate(self.model)) is not None:
            self._recorder.rate(rate, time.time())


def names_of_means(model: Any) -> list[str]:
    """What logs may call the model's metrics that are means over records, each as many as another.

    Not `weighted_metrics`, whose records differ in weight.
    """
    found: dict[str, Any] = {}
    for metric in model.metrics:
        found |= _compiled(metric) if hasattr(metric, "_user_metrics") else {metric.name: metric}
    return [name for name, metric in found.items() if is_mean(metric)]


def _compiled(metrics: Any) -> dict[str, Any]:
    """Those that a model was compiled with, which Keras keeps as one, by their names in logs.

    As in its `CompileMetrics.result`, which is not asked: several outputs put their names before
    them. The second of a name, which gets a number there, is left out.
    """
    found: dict[str, Any] = {}
    for of_output in getattr(metrics, "_flat_metrics", ()):  # there once it is built
        prefix = f"{of_output.output_name}_" if of_output and of_output.output_name else ""
        for metric in of_output.metrics if of_output else ():
            found.setdefault(f"{prefix}{metric.name}", metric)
    return found


def is_mean(metric: Any) -> bool:
    """Whether its result is the mean of what steps gave it, and they gave it something."""
    if getattr(type(metric), "result", None) is not keras.metrics.Mean.result:
        return False
    # Not its result: that is a collective operation where there are several workers.
    return any(float(copy) > 0 for copy in local_values(metric.count))


class CurvesOfFit(CurvesCallback):
    """The same for steps that Keras drives, which do not say how long they waited for data."""

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        """One step."""
        values = {name: [float(value)] for name, value in (logs or {}).items()}
        self._recorder.call(values, [time.time()], [0.0])
        self._now_and_then()
