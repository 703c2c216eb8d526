"""The inner loop: calls of several compiled steps each, and what happens around them.

Keras callbacks are driven with the usual hooks and global logs. Between two calls, and only
there, the loop looks up: at the stop request, and whether a save is due. What is trained and
validated when, a body says: `each_epoch`, or a recipe's own.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from trainer.calls import CallSize, Logs, Step, check_number, each_callback
from trainer.checkpoint.position import Position, Schedule
from trainer.errors import ConfigError
from trainer.steps import CallResult, Steps

# A step of one's own or the model's `test_step`, and what to do between compiled calls -> the
# logs of each step of a validation pass, and its number of records.
Validation = Callable[[Step | None, Callable[[], None]], Iterator[tuple[Logs, int]]]


class Boundary(Protocol):
    """What happens between two calls; the loop asks, others decide."""

    def steps_until_save(self, step: int) -> int | None:
        """Steps to the next one that must end a call."""
        ...

    def between_calls(self, position: Position) -> None:
        """Save if due; raise StoppedError after a save when told to stop."""
        ...

    def inside_epoch(self, step: int) -> None:
        """Raise StoppedError when told to stop where nothing can be saved."""
        ...

    def before_validation(self) -> None:
        """Remember what a pass may change: stopped inside it, the run starts the pass again."""
        ...

    def after_epoch(self, position: Position) -> None:
        """Save if due; raise StoppedError after a save when told to stop."""
        ...


class Memory(dict[str, Any]):
    """What a loop's body keeps from step to step: plain values and numpy arrays, by texts.

    It is saved with every checkpoint, and put back before the body begins.
    """

    def get_state(self) -> dict[str, Any]:
        """As callbacks' state is saved."""
        return dict(self)

    def set_state(self, state: dict[str, Any]) -> None:
        """Forget all, and hold that."""
        self.clear()
        self.update(state)


class TrainLoop:
    """Drives steps and callbacks from a position to the end of the schedule.

    A body is a function that is given this object. It takes all of `epochs`, in each all of
    `train_steps`, maybe `validation_steps`, and then tells `end_epoch` the epoch's logs. It runs
    from its top in every life of the run, so what must survive goes into `memory`.
    """

    begins_epoch = False
    num_records = 0

    def __init__(
        self, model: Any, steps: Steps, schedule: Schedule, boundary: Boundary, *,
        callbacks: Any, validation: Validation | None, on_call: Callable[[CallResult], None],
    ) -> None:  # fmt: skip
        self.model = model
        self.memory = Memory()
        self._own: Own | None = None
        self._steps: dict[Step | None, Steps] = {None: steps}
        self._schedule = schedule
        self._boundary = boundary
        self._callbacks = callbacks
        self._each = each_callback(callbacks)
        self._validation = validation
        self._on_call = on_call
        self._calls = CallSize(schedule)
        self._position = Position()
        self._iterator: Iterator[Any] = iter(())
        self._is_open = False  # an epoch was begun, or resumed, and is not ended
        self._is_in_call = False  # not all steps of a call were handed on

    def run(
        self, position: Position, iterator: Iterator[Any], own: "Own | None" = None
    ) -> Position:
        """Train until the schedule's end or until training is stopped; returns where that is.

        Raises ConfigError when a body of a recipe's own leaves something out.
        """
        self._position, self._iterator, self._own = position, iterator, own
        if own is None:
            each_epoch(self)
        else:
            self.memory = own.memory
            own.body(self)
        if not self._position.is_over(self._schedule.target_step):
            raise ConfigError(
                f"the recipe's loop returned at step {self.step} of {self._schedule.target_step}: "
                "it must take all of epochs(); to end earlier, set model.stop_training = True "
                "ahead of end_epoch(logs)"
            )
        return self._position

    @property
    def step(self) -> int:
        """Global steps that are done."""
        return self._position.step

    @property
    def steps_per_epoch(self) -> int:
        """Steps of a whole epoch."""
        return self._schedule.steps_per_epoch

    @property
    def logs(self) -> Logs:
        """Those of the last step of the last call; after `train_steps`, the epoch's last."""
        return dict(self._position.epoch_logs)

    @property
    def _epoch(self) -> int:
        return self._position.epoch(self.steps_per_epoch)

    def epochs(self) -> Iterator[int]:
        """The epochs to train, from 0; the first may have been begun before: see `begins_epoch`."""
        while not self._position.is_over(self._schedule.target_step):
            epoch, self._is_open = self._epoch, True
            self.begins_epoch = not self._position.is_inside_epoch(self.steps_per_epoch)
            if self.begins_epoch:
                self.model.reset_metrics()
                self._callbacks.on_epoch_begin(epoch)
            yield epoch
            if self._is_open:
                raise ConfigError(
                    f"the recipe's loop left epoch {epoch} at step {self.step}, without "
                    "end_epoch(logs): call it when all of train_steps() was taken"
                )

    def train_steps(self, step: Step | None = None, *, until: int | None = None) -> Iterator[Logs]:
        """Train the rest of the epoch, or up to its step `until`; yields each step's logs.

        `step`: a function of one's own in place of the model's `train_step`. Steps run several a
        call, and their logs follow: `train.steps_per_call: 1` gives the weights of exactly a step.
        """
        steps = self._steps_of(step)
        self._check_call()
        if self._position.phase == "validate":
            return
        self._check_beginning()
        first = self._epoch * self.steps_per_epoch
        steps_ahead = self.steps_per_epoch if until is None else min(until, self.steps_per_epoch)
        end = first + steps_ahead
        while self.step < end and not self.model.stop_training:
            ahead = [end - self.step, self._calls.size]
            if (save := self._boundary.steps_until_save(self.step)) is not None:
                ahead.append(save)
            ahead += [at - self.step for at in self._schedule.call_ends if at > self.step]
            yield from self._call(steps, min(ahead))
            if self.step < first + self.steps_per_epoch and not self.model.stop_training:
                self._boundary.between_calls(self._position)
        if self.step == first + self.steps_per_epoch or self.model.stop_training:
            self._position = replace(self._position, phase="validate")

    @property
    def validates(self) -> bool:
        """Whether this epoch ends with a validation pass (`train.validate_every`)."""
        is_due = (self._epoch + 1) % self._schedule.validate_every == 0
        return self._validation is not None and is_due

    def validation_steps(self, step: Step | None = None) -> Iterator[Logs]:
        """A pass over the validation split, if one is due; yields each step's logs.

        `step`: a function of one's own in place of the model's `test_step`. Stopped inside, a run
        makes the whole pass again.
        """
        if self._validation is None or not self.validates:
            return
        self._boundary.before_validation()
        passed = self._validation(step, lambda: self._boundary.between_calls(self._position))
        for logs, num_records in passed:
            self.num_records = num_records
            yield logs

    def end_epoch(self, logs: Mapping[str, float]) -> None:
        """End the epoch: its logs go to callbacks, to the history, and to what chooses the best."""
        self._check_call()
        if self._position.phase != "validate":
            raise ConfigError(
                f"the recipe's loop ended epoch {self._epoch} at step {self.step}, before all of "
                "train_steps() was taken: to end training there, set model.stop_training = True"
            )
        kept = {name: float(value) for name, value in logs.items()}
        self._callbacks.on_epoch_end(self._epoch, dict(kept))
        self._position = replace(
            self._position, phase="train", epoch_logs=kept,
            stop_training=bool(self.model.stop_training),
        )  # fmt: skip
        self._is_open = False
        self._boundary.after_epoch(self._position)

    def _check_beginning(self) -> None:
        is_inside = self._position.is_inside_epoch(self.steps_per_epoch)
        if self.model.stop_training and not is_inside:
            raise ConfigError(
                f"training was ended before the first step of epoch {self._epoch}: set "
                "model.stop_training = True ahead of end_epoch(logs) of the epoch before, a "
                "callback in its on_epoch_end"
            )

    def _check_call(self) -> None:
        if self._is_in_call:
            raise ConfigError(
                f"the recipe's loop broke train_steps() off after step {self.step}, inside of a "
                "call whose steps are done: take all of it, or as many as until=STEP says; to end "
                "training, set model.stop_training = True"
            )

    def _steps_of(self, step: Step | None) -> Steps:
        if step not in self._steps and step is not None and self._own is not None:
            check_number(self._steps)
            self._steps[step] = self._own.compiled(step)
        return self._steps[step]

    def _call(self, steps: Steps, num_steps: int) -> Iterator[Logs]:
        started = time.monotonic()
        result = steps(self._iterator, num_steps, self._calls.wanted)
        self._calls.measured(num_steps, time.monotonic() - started, result.next_size)
        self._on_call(result)
        first, self._is_in_call = self.step % self.steps_per_epoch, True
        for index in range(num_steps):
            logs = result.step_logs(index)
            for callback in self._each:
                callback.on_train_batch_begin(first + index, logs={})
            for callback in self._each:
                callback.on_train_batch_end(first + index, logs=logs)
            self.num_records = self._own.records(first + index) if self._own else 0
            is_stopped = self.model.stop_training
            yield logs
            if self.model.stop_training != is_stopped and self._schedule.steps_per_call != 1:
                raise ConfigError(
                    f"the recipe's loop ended training after step {first + index + 1} of an epoch, "
                    "while several steps run in one call: set train.steps_per_call=1 and go on "
                    "from the last checkpoint, or let it stop when the epoch has ended"
                )
        self._is_in_call = False
        self._position = replace(
            self._position,
            step=self.step + num_steps,
            epoch_logs=result.step_logs(num_steps - 1),
            stop_training=bool(self.model.stop_training),
        )


@dataclass(frozen=True)
class Own:
    """A body of a recipe's own, and what it is given beside the usual.

    compiled: makes steps of one of its functions. records: how many an epoch's step has.
    """

    body: Callable[[TrainLoop], None]
    compiled: Callable[[Step], Steps]
    records: Callable[[int], int]
    memory: Memory = field(default_factory=Memory)


def each_epoch(run: TrainLoop) -> None:
    """The usual body: the model's own steps, and the metrics that they have come to."""
    for _epoch in run.epochs():
        for _logs in run.train_steps():
            pass
        validated: Logs = {}
        for validated in run.validation_steps():  # noqa: B007
            pass
        run.end_epoch(run.logs | {f"val_{name}": value for name, value in validated.items()})
