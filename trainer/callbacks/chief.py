"""Callbacks that run on worker 0 alone, and what keeps them from deciding anything there.

Workers stay equal because each does the same. One that ended training or lowered its learning rate
would train something else than the others, or wait for them for ever. So what such a callback does
is undone at once, and all workers hear of it between two calls, where they end together.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import keras
import numpy as np
from keras import callbacks as keras_callbacks

from trainer.backends import this_backend
from trainer.errors import ConfigError
from trainer.models.replicas import local_values, optimizers_of

# They only write, files or to a service. Subclasses may do more, and say so by an attribute.
_WRITERS = (
    keras_callbacks.CSVLogger,
    keras_callbacks.ModelCheckpoint,
    keras_callbacks.RemoteMonitor,
    keras_callbacks.TensorBoard,
)
_DECIDERS = (
    keras_callbacks.EarlyStopping,
    keras_callbacks.LearningRateScheduler,
    keras_callbacks.ReduceLROnPlateau,
    keras_callbacks.TerminateOnNaN,
)
_BASE = keras.callbacks.Callback
_HOOKS = [name for name in dir(_BASE) if name.startswith("on_")]
# Keras' older names, which the newer hooks call.
_OLDER = {
    "on_train_batch_begin": "on_batch_begin",
    "on_train_batch_end": "on_batch_end",
}


def is_chief_only(callback: Any, *, configured: bool = False) -> bool:
    """Whether a callback, or one that a class makes, is for worker 0 alone.

    By the configuration, by its attribute `chief_only`, or because it is one of Keras' writers.
    Raises ConfigError for one of Keras' that decides.
    """
    kind = callback if isinstance(callback, type) else type(callback)
    is_so = configured or bool(getattr(callback, "chief_only", False))
    if is_so and issubclass(kind, _DECIDERS):
        raise ConfigError(
            f"callback {kind.__name__} ends training or changes the learning rate, so it cannot be "
            "chief_only: all workers have to do that alike"
        )
    return is_so or kind in _WRITERS


def guarded(callback: Any, object_to: Callable[[str], None]) -> Any:
    """A chief-only callback, watched unless it is one of ours or Keras'."""
    is_known = type(callback).__module__.startswith("trainer.") or type(callback) in _WRITERS
    return callback if is_known else ChiefOnly(callback, object_to)


def overrides(callback: Any, hook: str) -> bool:
    """Whether it has a hook of its own."""
    # A LambdaCallback's hooks are plain functions, without __func__.
    own = getattr(getattr(callback, hook), "__func__", None) is not getattr(_BASE, hook)
    return own or (hook in _OLDER and overrides(callback, _OLDER[hook]))


class ChiefOnly(keras.callbacks.Callback):
    """Calls the hooks of `callback`, takes back what must not be done there, and objects to it."""

    def __init__(self, callback: Any, object_to: Callable[[str], None]) -> None:
        super().__init__()
        self.callback = callback
        self._object_to = object_to
        self._scalars: list[Any] | None = None
        for hook in _HOOKS:
            if hook not in _OLDER.values() and overrides(callback, hook):
                setattr(self, hook, partial(self._call, hook))

    def set_params(self, params: Any) -> None:
        """For both."""
        super().set_params(params)
        self.callback.set_params(params)

    def set_model(self, model: Any) -> None:
        """For both."""
        super().set_model(model)
        self.callback.set_model(model)

    def _call(self, hook: str, *args: Any, **kwargs: Any) -> None:
        with self._unchanged(hook):
            getattr(self.callback, hook)(*args, **kwargs)

    @contextmanager
    def _unchanged(self, hook: str) -> Iterator[None]:
        model = self.callback.model
        is_stopped, before = model.stop_training, self._values()
        yield
        did = ""
        if model.stop_training != is_stopped:
            model.stop_training = is_stopped
            did = "set stop_training"
        for (variable, was), (_, now) in zip(before, self._values(), strict=True):
            if repr(now) != repr(was):  # so that NaN equals itself
                variable.assign(was)
                did = f"changed {variable.name}"
        if did:
            self._object_to(f"callback {type(self.callback).__name__} {did} in {hook}")

    def _values(self) -> list[tuple[Any, Any]]:
        """What optimizers hold in single numbers: rates, scales of losses, counters."""
        if self._scalars is None:
            optimizers = list(optimizers_of(self.callback.model))
            found = [variable for one in optimizers for variable in one.variables]
            self._scalars = [variable for variable in found if variable.shape == ()]
        read = this_backend().read
        return [(one, np.asarray(read(local_values(one)[0])).item()) for one in self._scalars]
