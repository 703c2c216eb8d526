"""What callbacks that report a run to a tracking service have in common."""

import math
import os
import time
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

import keras

from trainer.callbacks.reporter import Reporter, Row, Service
from trainer.callbacks.run_info import RunInfo
from trainer.errors import ConfigError


class Tracker(keras.callbacks.Callback):
    """Reports the logs of each epoch, by the run's global steps; a subclass says to what.

    The service has one run for a run of ours, over restarts and for any number of workers.

    Args:
        every_steps: also the logs of every so many steps, as `batch/…`.
    """

    chief_only = True
    reads_logs_only = True
    # The Python package, and the extra of ours that installs it.
    package = ""
    extra = ""

    def __init__(self, every_steps: int | None = None) -> None:
        super().__init__()
        if every_steps is not None and every_steps < 1:
            raise ValueError(f"every_steps is {every_steps!r}: give 1 or more, or leave it out")
        self._every_steps = every_steps
        self._step = 0
        self._row: Row | None = None  # of the last step, to which an epoch's end adds
        self._reporter: Reporter | None = None

    def service(self, run: RunInfo) -> Service:
        """What to report to; its package is installed."""
        raise NotImplementedError

    def set_run(self, run: RunInfo) -> None:
        """Connect, on the worker that writes. ConfigError when the service refuses."""
        self._step = run.step
        if not run.writes:
            return
        if not find_spec(self.package):
            raise ConfigError(
                f"callback {type(self).__name__} needs {self.package}: "
                f"pip install 'trainer-k8s[{self.extra}]'"
            )
        self._reporter = Reporter(self.service(run))
        self._reporter.start()

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        """Count, and report now and then."""
        self._step += 1
        if self._every_steps is not None and self._step % self._every_steps == 0:
            self._note({f"batch/{name}": value for name, value in (logs or {}).items()})

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Report the epoch, which counts from 1 as it has ended."""
        self._note({**(logs or {}), "epoch": epoch + 1})
        self._hand_over()

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        """The run is complete."""
        self._hand_over()
        if self._reporter is not None:
            self._reporter.end()

    def get_state(self) -> dict[str, Any]:
        """Rows that the service may not have."""
        waiting = [] if self._reporter is None else self._reporter.waiting
        rows = [*waiting, *filter(None, [self._row])]
        return {"rows": [[row.step, row.at, dict(row.values)] for row in rows]} if rows else {}

    def set_state(self, state: dict[str, Any]) -> None:
        """Hand them over first, but one that the end of an epoch will add to."""
        rows = [
            # A number that is none is null in JSON.
            Row(step, at, {k: math.nan if v is None else v for k, v in values.items()})
            for step, at, values in state.get("rows", ())
        ]
        if rows and rows[-1].step == self._step:
            self._row = rows.pop()
        if self._reporter is not None:
            self._reporter.add(rows)

    def _note(self, values: Mapping[str, Any]) -> None:
        """Add to this step's row."""
        if self._row is not None and self._row.step != self._step:
            self._hand_over()
        held = self._row.values if self._row else {}
        numbers = {name: float(value) for name, value in values.items()}
        self._row = Row(self._step, time.time(), {**held, **numbers})

    def _hand_over(self) -> None:
        if self._row is not None and self._reporter is not None:
            self._reporter.add([self._row])
        self._row = None


def default_environment(**variables: str) -> None:
    """Set variables that nobody has set."""
    for name, value in variables.items():
        os.environ.setdefault(name, value)


def flat(tree: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    """A configuration by dotted keys; lists as they are."""
    found: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            found |= flat(value, f"{path}{key}.")
        else:
            found[path + key] = value
    return found
