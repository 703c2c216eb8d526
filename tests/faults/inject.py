"""Faults as objects: callbacks and storages that do harm at a point set beforehand.

Each fault appends a line to the file FAULT_LOG before it fires, so that a test can see it did.
"""

import hashlib
import itertools
import json
import os
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from trainer import errors
from trainer.cluster import read_cluster
from trainer.errors import ObjectNotFoundError, StorageError
from trainer.storage import Entry, Storage, open_storage


def note(what: str) -> None:
    """Say durably that a fault fires now."""
    with Path(os.environ["FAULT_LOG"]).open("a", encoding="utf-8") as file:
        file.write(what + "\n")
        file.flush()
        os.fsync(file.fileno())


class _At(keras.callbacks.Callback):
    """Fires once, at the n-th call of a hook in this process; of a group, maybe in one alone."""

    reads_logs_only = True

    def __init__(
        self, at: int, hook: str = "on_train_batch_end", worker: int | None = None
    ) -> None:
        super().__init__()
        is_here = worker is None or worker == read_cluster(os.environ).worker
        self._at, self._calls = at if is_here else -1, 0
        setattr(self, hook, self._count)

    def _count(self, *_args: Any, **_kwargs: Any) -> None:
        self._calls += 1
        if self._calls == self._at:
            note(f"{type(self).__name__} at {self._at}")
            self.fire()

    def fire(self) -> None:
        raise NotImplementedError


class SignalAt(_At):
    """Sends this process a signal."""

    def __init__(
        self, at: int, name: str = "SIGKILL", hook: str = "on_train_batch_end", **more: Any
    ) -> None:
        super().__init__(at, hook, **more)
        self._signal = signal.Signals[name]

    def fire(self) -> None:
        os.kill(os.getpid(), self._signal)


class StopAt(_At):
    """Ends training, as early stopping does, but inside an epoch."""

    reads_logs_only = False

    def fire(self) -> None:
        self.model.stop_training = True


class RateAt(_At):
    """Lowers the learning rate."""

    reads_logs_only = False

    def fire(self) -> None:
        self.model.optimizer.learning_rate = 0.001


class HastyStopAt(StopAt):
    """The same, though it says that it only reads."""

    reads_logs_only = True


class ExitAt(_At):
    """Ends the process, as Python does it."""

    def __init__(self, at: int, kind: str, hook: str) -> None:
        super().__init__(at, hook)
        self._kind = {e.__name__: e for e in (SystemExit, KeyboardInterrupt, GeneratorExit)}[kind]

    def fire(self) -> None:
        raise self._kind


class LeaveAt(_At):
    """Ends the process as a complete run does, without a word."""

    def fire(self) -> None:
        os._exit(0)


class FailAt(_At):
    """Ends training with an error of the trainer's own, by the class's name."""

    def __init__(self, at: int, kind: str, **more: Any) -> None:
        super().__init__(at, **more)
        self._kind = getattr(errors, kind)

    def fire(self) -> None:
        raise self._kind(f"the test wants a {self._kind.__name__}")


class RaiseAt(keras.callbacks.Callback):
    """A callback with a bug, in what a hook of it calls."""

    reads_logs_only = True

    def __init__(self, at: int) -> None:
        super().__init__()
        self._left = at

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self._left -= 1
        if self._left == 0:
            note("RaiseAt")
            self._read()

    def _read(self) -> None:
        raise ValueError("no such file")


class NanAt(_At):
    """Makes the weights NaN after a step."""

    reads_logs_only = False

    def fire(self) -> None:
        # The last layer's bias: a relu may turn the NaN of an earlier layer into 0.
        weight = self.model.trainable_variables[-1]
        weight.assign(weight * float("nan"))


class NoteBits(keras.callbacks.Callback):
    """Notes a checksum of what this worker trains, after every so many steps of this process."""

    reads_logs_only = True

    def __init__(self, every: int) -> None:
        super().__init__()
        self._every, self._calls = every, 0

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self._calls += 1
        if self._calls % self._every == 0:
            variables = [*self.model.variables, *self.model.optimizer.variables]
            bits = b"".join(np.asarray(variable).tobytes() for variable in variables)
            worker = read_cluster(os.environ).worker
            note(f"bits {self._calls} {worker} {hashlib.sha256(bits).hexdigest()}")


class NoteRun(keras.callbacks.Callback):
    """Notes what each worker that has it is told of its run."""

    stateless = True

    def __init__(self, name: str = "run") -> None:
        super().__init__()
        self._name = name
        note(f"{name} built {read_cluster(os.environ).worker}")

    def set_run(self, run: Any) -> None:
        assert run.config["train"]["seed"] == 0
        note(f"{self._name} {read_cluster(os.environ).worker} {run.id} {run.step}")


class Unsettable(keras.callbacks.Callback):
    """Cannot do with what it is told of its run."""

    def set_run(self, run: Any) -> None:
        raise ValueError(run.name)

    def get_state(self) -> dict[str, Any]:
        return {}

    def set_state(self, state: dict[str, Any]) -> None:
        """Nothing."""


class NoteLosses(keras.callbacks.Callback):
    """Notes the loss that each step logs: the mean of an epoch's steps so far."""

    reads_logs_only = True

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        note(f"loss {batch} {logs['loss']!r}")


class NoteCommunication(keras.callbacks.Callback):
    """Notes by what TensorFlow is told to add up over the workers of this model."""

    reads_logs_only = True

    def on_train_begin(self, logs: Any = None) -> None:
        import tensorflow as tf

        strategy = self.model.distribute_strategy

        @tf.function
        def total() -> Any:
            return strategy.reduce("SUM", strategy.run(lambda: tf.ones(1)), axis=None)

        operations = total.get_concrete_function().graph.get_operations()
        sums = [operation for operation in operations if "Collective" in operation.type]
        hints = {operation.get_attr("communication_hint").decode() for operation in sums}
        note(f"communication {read_cluster(os.environ).worker} {' '.join(sorted(hints))}")


class GateAt(_At):
    """Stands still until the test makes the file at `path`."""

    def __init__(self, at: int, path: str, hook: str = "on_train_batch_end") -> None:
        super().__init__(at, hook)
        self._path = path

    def fire(self) -> None:
        deadline = time.monotonic() + 180
        while not Path(self._path).exists():
            assert time.monotonic() < deadline, "nobody opened the gate"
            time.sleep(0.01)


class Linger(keras.callbacks.Callback):
    """Takes its time after every step."""

    reads_logs_only = True

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._seconds = seconds

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        time.sleep(self._seconds)


# In this process: a folder may be opened more than once.
_OPERATIONS = itertools.count(1)


class FaultyStorage:
    """A storage that fails, stalls or kills at its n-th operation on checkpoints, or on `path`.

    Or one that does not show what is in a folder, as of a store that is late, or of another disk.
    """

    def __init__(self, inner: Storage, fault: dict[str, Any]) -> None:
        self.url, self._inner, self._fault = inner.url, inner, fault

    def _step(self, operation: str, path: str) -> None:
        if self._fault["action"] == "hide":
            if self._is_hidden(path):
                note(f"hide {path}")
                raise ObjectNotFoundError(f"no object {path}")
            return
        is_meant = path.startswith(self._fault.get("path", ""))
        if not is_meant or operation not in self._fault["operations"]:
            return
        number = next(_OPERATIONS)
        first, last = self._fault["at"], self._fault["at"] + self._fault.get("times", 1)
        if not first <= number < last:
            return
        note(f"{self._fault['action']} {number} {operation} {path}")
        if self._fault["action"] == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif self._fault["action"] == "stall":
            time.sleep(self._fault["seconds"])
        elif self._fault["action"] == "signal":
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(self._fault["seconds"])
        else:
            if self._fault["action"] == "signal and fail":
                os.kill(os.getpid(), signal.SIGTERM)
            raise StorageError(f"injected failure of {operation} {path}")

    def list(self, prefix: str = "") -> Iterator[Entry]:
        self._step("list", prefix)
        return (entry for entry in self._inner.list(prefix) if not self._is_hidden(entry.path))

    def folders(self) -> Sequence[str]:
        return self._inner.folders()

    def _is_hidden(self, path: str) -> bool:
        return path.startswith(self._fault.get("hidden", "\0"))

    def stat(self, path: str) -> Entry:
        self._step("stat", path)
        return self._inner.stat(path)

    def read(self, path: str, *, start: int = 0, length: int | None = None) -> bytes:
        self._step("read", path)
        return self._inner.read(path, start=start, length=length)

    def write(self, path: str, data: Any) -> Any:
        self._step("write", path)
        return self._inner.write(path, data)

    def create(self, path: str, data: Any) -> bool:
        self._step("create", path)
        return self._inner.create(path, data)

    def replace(self, path: str, data: Any, *, version: str) -> Any:
        self._step("replace", path)
        return self._inner.replace(path, data, version=version)

    def check_writable(self, path: str) -> None:
        self._inner.check_writable(path)

    def delete(self, path: str) -> None:
        self._step("delete", path)
        self._inner.delete(path)

    def remove_temporaries(self, *, older_than_seconds: float) -> int:
        return self._inner.remove_temporaries(older_than_seconds=older_than_seconds)


def open_faulty(url: str, **options: Any) -> Storage:
    """`open_storage`, with the fault of FAULT_STORAGE (JSON) on folders that end as it says.

    FAULT_TIMEOUT: seconds that a remote store may stay without a byte.
    """
    timeout = float(os.environ.get("FAULT_TIMEOUT", "60"))
    inner = open_storage(url, timeout_seconds=timeout, **options)
    fault = json.loads(os.environ.get("FAULT_STORAGE", "null"))
    return FaultyStorage(inner, fault) if fault and url.endswith(fault["folder"]) else inner
