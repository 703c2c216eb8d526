"""What training steps' seconds go to: compiling, waiting for data, work, and work done before."""

from typing import Any

import keras

from trainer.data.fetching import Fetching
from trainer.goodput import CauseClock
from trainer.steps import CallResult, Steps


class StepTimes:
    """Tells `clock` of every call of steps.

    done: steps of the run before the first of them. reached: the highest one that an earlier life
    had made; up to it, steps are made again. fetching: of their data.
    """

    def __init__(self, clock: CauseClock, *, done: int, reached: int, fetching: Fetching) -> None:
        self.clock = clock
        self._done, self._reached = done, reached
        self._fetching = fetching
        self._fetched = 0.0
        self._step_seconds: float | None = None

    def of(self, steps: Steps) -> Steps:
        """The same steps, with their calls told."""
        return _Timed(steps, self)

    def of_fit(self) -> keras.callbacks.Callback:
        """For steps that Keras drives, which do not say how long they waited for data."""
        return _OfFit(self)

    def passed(self, num_steps: int, waited: float = 0.0) -> None:
        """So many steps were made since the last word."""
        again = min(max(self._reached - self._done, 0), num_steps)
        # Beside compiling, the first step is nothing.
        is_first = self.clock.is_at == "compile"
        if not is_first:
            waited = self._waited(num_steps, waited)
        self.clock.call(waited=waited, redone=0.0 if is_first else again / num_steps)
        self._done += num_steps

    def _waited(self, num_steps: int, timed: float) -> float:
        """What steps waited for data, of which not all are timed: a stall may be in another one.

        There was one where a fetch took longer than all of the call does usually.
        """
        _, passed = self.clock.pending()
        fetched = self._fetching.seconds - self._fetched
        self._fetched += fetched
        waited = timed
        if self._step_seconds is not None:
            usual = num_steps * self._step_seconds
            if fetched > usual:
                waited = max(timed, min(fetched, passed - usual))
        seconds = max(passed - waited, 0.0) / num_steps
        before = seconds if self._step_seconds is None else self._step_seconds
        self._step_seconds = before + (seconds - before) / 8
        return waited


class _Timed:
    def __init__(self, steps: Steps, times: StepTimes) -> None:
        self._steps, self._times = steps, times
        self._is_first = True

    def __call__(self, iterator: Any, num_steps: int, wanted_size: int = 1) -> CallResult:
        if self._is_first:
            self._is_first = False
            with self._times.clock.cause("compile"):
                return self(iterator, num_steps, wanted_size)
        result = self._steps(iterator, num_steps, wanted_size)
        self._times.passed(num_steps, float(result.waited.sum()))
        return result

    def check(self, iterator: Any) -> None:
        with self._times.clock.cause("compile"):
            self._steps.check(iterator)


class _OfFit(keras.callbacks.Callback):
    """Begins in `compile`, which ends with the first step."""

    def __init__(self, times: StepTimes) -> None:
        super().__init__()
        self._times = times

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:  # noqa: ARG002
        self._times.passed(1)
        self._times.clock.switch("step")

    def on_test_begin(self, logs: Any = None) -> None:  # noqa: ARG002
        self._times.clock.switch("validation")

    def on_test_end(self, logs: Any = None) -> None:  # noqa: ARG002
        self._times.clock.switch("step")
