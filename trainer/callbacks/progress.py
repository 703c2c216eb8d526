"""How far training is: a bar on a terminal, an event now and then elsewhere."""

import logging
import sys
import time
from collections.abc import Callable
from typing import Any

import keras
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Column

from trainer.log import as_fields


class _Rate:
    """Examples a second since training began in this process; the first call only compiles."""

    def __init__(self, batch_size: int, clock: Callable[[], float]) -> None:
        self._batch_size, self._clock = batch_size, clock
        self._steps, self._since = -1, 0.0

    def step(self) -> None:
        self._steps += 1
        if self._steps == 0:
            self._since = self._clock()

    def examples_per_second(self) -> float:
        seconds = self._clock() - self._since
        return max(self._steps, 0) * self._batch_size / seconds if seconds > 0 else 0.0

    def seconds_for(self, steps: int) -> float | None:
        """How long so many steps take; None while nobody knows."""
        rate = self.examples_per_second()
        return steps * self._batch_size / rate if rate else None


class ProgressEvents(keras.callbacks.Callback):
    """Logs `first step`, `progress` every so many seconds, and `epoch` after each epoch."""

    def __init__(
        self, log: Any, *, batch_size: int, start: int, target: int, every_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        super().__init__()
        self._log = log
        self._start = self._step = start
        self._target = target
        self._every_seconds, self._clock = every_seconds, clock
        self._rate = _Rate(batch_size, clock)
        self._last = clock()

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        """Count a step, and log it if it is time."""
        self._step += 1
        self._rate.step()
        if self._step == self._start + 1:
            self._log.info("first step", step=self._step)
        if self._clock() - self._last >= self._every_seconds:
            self._last = self._clock()
            left = self._rate.seconds_for(self._target - self._step)
            self._log.info(
                "progress", step=self._step, target_step=self._target, **as_fields(logs),
                examples_per_second=round(self._rate.examples_per_second(), 1),
                eta_seconds=None if left is None else round(left, 1),
            )  # fmt: skip

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Log an epoch's metrics."""
        self._log.info("epoch", epoch=epoch + 1, step=self._step, **as_fields(logs))

    def close(self) -> None:
        """Nothing is held."""


class ProgressBar(keras.callbacks.Callback):
    """One line that moves: step, metrics, examples a second, time left."""

    def __init__(
        self, console: Console, log: Any, *, batch_size: int, start: int, target: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        super().__init__()
        self._log = log
        self._rate = _Rate(batch_size, clock)
        # On a narrow terminal the metrics are cut, never the rest.
        metrics = Column(no_wrap=True, overflow="ellipsis", ratio=1)
        self._bar = Progress(
            TextColumn("step", table_column=_fixed()),
            MofNCompleteColumn(table_column=_fixed()),
            BarColumn(bar_width=10, table_column=_fixed()),
            TextColumn("{task.fields[logs]}", table_column=metrics),
            TextColumn("{task.fields[rate]:,.0f} examples/s", table_column=_fixed()),
            TextColumn("ETA", table_column=_fixed()),
            TimeRemainingColumn(table_column=_fixed()),
            console=console, refresh_per_second=4, expand=True,
        )  # fmt: skip
        self._task = self._bar.add_task("", total=target, completed=start, logs="", rate=0.0)
        self._redirected: list[tuple[Any, Any]] = []

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        """Show the bar; from now on log lines are printed above it."""
        self._bar.start()
        screen = self._bar.console.file
        for handler in logging.getLogger().handlers:
            if isinstance(handler, logging.StreamHandler) and handler.stream is screen:
                # The bar stands in for sys.stdout while it is shown; handlers hold the old one.
                self._redirected.append((handler, handler.stream))
                handler.setStream(sys.stdout)

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        """Move by one step."""
        self._rate.step()
        named = sorted((logs or {}).items(), key=lambda item: (item[0] != "loss", item[0]))
        shown = " ".join(f"{name} {value:.4f}" for name, value in named)
        self._bar.update(self._task, advance=1, logs=shown, rate=self._rate.examples_per_second())

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """A line that stays, above the bar."""
        self._log.info("epoch", epoch=epoch + 1, **as_fields(logs))

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        """Leave the bar as it is."""
        self.close()

    def close(self) -> None:
        """Give the terminal back, also when training ended early."""
        while self._redirected:
            handler, stream = self._redirected.pop()
            handler.setStream(stream)
        self._bar.stop()


def _fixed() -> Column:
    return Column(no_wrap=True)
