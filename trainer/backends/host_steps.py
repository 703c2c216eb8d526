"""Steps that Python starts one by one, on the backends that TensorFlow does not compile."""

import inspect
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from trainer.errors import ConfigError
from trainer.steps import CallResult


class HostSteps:
    """Any number of steps a call; a subclass says what one is.

    Nothing waits for a step before the call's last: a device works on while the next steps' data
    are fetched. So single steps have no times of their own, and count as equally long.
    """

    def __call__(self, iterator: Any, num_steps: int, wanted_size: int = 1) -> CallResult:  # noqa: ARG002
        """Run `num_steps` steps on the next elements of `iterator`."""
        started = time.time()
        all_logs, waited = [], []
        with self._call():
            for _ in range(num_steps):
                asked = time.monotonic()
                examples, _ = next(iterator)
                waited.append(time.monotonic() - asked)
                all_logs.append(self._step(examples))
        logs = {
            name: np.array([keras.ops.convert_to_numpy(one[name]) for one in all_logs], np.float32)
            for name in sorted(all_logs[0])  # in the order in which Keras hands them to callbacks
        }
        ended = np.linspace(started, time.time(), num_steps + 1)[1:]
        return CallResult(logs, ended, np.array(waited))

    def check(self, iterator: Any) -> None:
        """Nothing: what a step changes is only known for TensorFlow's graphs."""

    @contextmanager
    def _call(self) -> Iterator[None]:
        """Around the steps of one call."""
        yield

    def _step(self, examples: Any) -> dict[str, Any]:
        """One step's logs by name, as `flat_logs` gives them; they need not be computed yet."""
        raise NotImplementedError


def as_numpy(element: Any) -> Any:
    """Tensors of TensorFlow as arrays."""
    return tf.nest.map_structure(np.asarray, element)


def first_pass(model: Any, data: Any) -> None:
    """What a test_step does, outside of it: a JAX one could create no variable."""
    x, y, weight = keras.utils.unpack_x_y_sample_weight(data)
    predicted = model(x, training=False)
    if getattr(model, "loss", None) is not None:
        model.compute_loss(x, y, predicted, weight)
    model.compute_metrics(x, y, predicted, weight)


def step_of(model: Any, step: Any, arguments: Sequence[str]) -> Any:
    """A method of the model by its name, or a function, as it is.

    Raises ConfigError for one that is written for another backend. arguments: those of this one's.
    """
    function = getattr(model, step) if isinstance(step, str) else step
    name, backend = function.__name__, keras.backend.backend()
    has_tape = _has_tape(function, model)
    parameters = inspect.signature(function).parameters.values()
    if has_tape or sum(p.default is p.empty for p in parameters) != len(arguments):
        why = "uses tf.GradientTape" if has_tape else f"is not {name}({', '.join(arguments)})"
        if isinstance(step, str):
            whose = type(model).__name__
            way_out = (
                "give the class a step for this backend, as "
                f"trainer/recipes/mnist_steps_{backend}.py shows"
            )
        else:
            whose, way_out = "the recipe's own loop", "train by the usual loop (params.loop=usual)"
        raise ConfigError(
            f"{name} of {whose} is none for KERAS_BACKEND={backend}, it {why}: use "
            f"KERAS_BACKEND=tensorflow, or {way_out}"
        )
    return function


def _has_tape(function: Any, model: Any, seen: tuple[Any, ...] = ()) -> bool:
    """Whether it names TensorFlow's tape, or another of its module's functions that does."""
    function = inspect.unwrap(getattr(function, "__func__", function))
    if not inspect.isfunction(function) or function in seen:
        return False
    names = set(_names(function.__code__))
    if "GradientTape" in names:
        return True
    found = function.__globals__ | dict(inspect.getclosurevars(function).nonlocals)
    called = [
        other for name in names for other in (found.get(name), getattr(type(model), name, None))
    ]
    return any(
        _has_tape(other, model, (*seen, function))
        for other in called
        if getattr(other, "__module__", None) == function.__module__
    )


def _names(code: Any) -> Iterator[str]:
    """Those that it refers to, and the functions that are written inside of it."""
    yield from (*code.co_names, *code.co_freevars)
    for constant in code.co_consts:
        if inspect.iscode(constant):
            yield from _names(constant)
