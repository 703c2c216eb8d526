"""Keras on JAX: a step is a pure function from the state and a batch to logs and the next state.

https://keras.io/guides/custom_train_step_in_jax: the state is the values of trainable, of
non-trainable, of the optimizer's and of the metrics' variables, in this order; a test_step has no
optimizer. Between calls the values are in the variables, where callbacks and checkpoints look.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import jax
import tensorflow as tf

from trainer.backends.host_steps import HostSteps, as_numpy, step_of
from trainer.backends.host_steps import first_pass as pass_over
from trainer.backends.tensorflow_backend import set_threads
from trainer.config import RunConfig
from trainer.errors import ConfigError
from trainer.steps import flat_logs

# Keras writes SavedModels, too, but TensorFlow 2.21 cannot read those of JAX 0.12.
FORMATS: Sequence[str] = ("keras",)
PASSING: tuple[type[BaseException], ...] = (jax.errors.JaxRuntimeError, tf.errors.OpError)
as_data = as_numpy
_ARGUMENTS = ("state", "data")


def prepare(config: RunConfig) -> list[str]:
    """See `Backend`. JAX reads its threads from the environment when it makes its first array."""
    set_threads(config.train.threads)  # of the data
    flags = [os.environ.get("XLA_FLAGS", "")]
    # XLA's own pool has NPROC threads, and one for each core without.
    os.environ["NPROC"] = str(config.train.threads)
    if config.train.threads == 1:
        flags.append("--xla_cpu_multi_thread_eigen=false")
    if config.train.deterministic:
        flags.append("--xla_gpu_deterministic_ops=true")
    os.environ["XLA_FLAGS"] = " ".join(filter(None, flags))
    if config.cluster.device == "cpu":
        jax.config.update("jax_platforms", "cpu")  # type: ignore[no-untyped-call]
    found = jax.devices()[0].platform
    if config.cluster.device == "gpu" and found != "gpu":
        raise ConfigError(
            f"cluster.device: gpu, but JAX {jax.__version__} sees {found} alone: check the driver "
            "and that jax[cuda13] is installed, or set cluster.device=cpu"
        )
    return [f"/{found}:0"]


def run_eagerly() -> None:
    """See `Backend`."""
    jax.config.update("jax_disable_jit", True)  # type: ignore[no-untyped-call]


def version() -> str:
    """JAX'."""
    return jax.__version__


def gpu_memory() -> list[tuple[int, int]]:
    """See `Backend`."""
    infos = [device.memory_stats() for device in jax.local_devices() if device.platform == "gpu"]
    return [(info["bytes_in_use"], info["peak_bytes_in_use"]) for info in infos if info]


def check_model(model: Any) -> None:
    """See `Backend`."""
    for name in ("train_step", "test_step"):
        step_of(model, name, _ARGUMENTS)


def first_pass(model: Any, _strategy: Any, data: Any) -> None:
    """See `Backend`."""
    pass_over(model, data)


def read(value: Any) -> Any:
    """The array; numpy takes it without a copy where the device is a CPU."""
    return value


def make_predict(model: Any) -> Callable[[Any], Any]:
    """See `Backend`; without training, layers draw no noise."""
    return lambda x: as_numpy(model(as_data(x), training=False))


def make_steps(model: Any, _strategy: Any, step: Any, **_options: Any) -> HostSteps:
    """See `Backend`; there is one device, one worker and one micro-batch."""
    return StatelessSteps(model, step)


class StatelessSteps(HostSteps):
    """A step compiled by XLA, which may put the new state into the memory of the old one."""

    def __init__(self, model: Any, step: Any) -> None:
        self._model = model
        self._is_training = step != "test_step"
        function = step_of(model, step, _ARGUMENTS)

        def checked(state: Any, data: Any) -> Any:
            # Here, while it is traced: an array of JAX holds no text, nor a structure None.
            returned = function(state, data)
            if not isinstance(returned, tuple) or len(returned) != 2:
                raise ConfigError(f"{function.__qualname__} must return (logs, state)")
            logs, state = returned
            return flat_logs(logs), state

        self._function = jax.jit(checked, donate_argnums=0)
        self._state: Any = None

    def _variables(self) -> list[list[Any]]:
        model = self._model
        optimizer = [model.optimizer.variables] if self._is_training else []
        return [
            model.trainable_variables, model.non_trainable_variables, *optimizer,
            model.metrics_variables,
        ]  # fmt: skip

    @contextmanager
    def _call(self) -> Iterator[None]:
        variables = self._variables()
        self._state = tuple([v.value for v in role] for role in variables)
        try:
            yield
        finally:
            # Also after an error: the memory of the values from before is not theirs any more.
            for role, values in zip(variables, self._state, strict=True):
                for variable, value in zip(role, values, strict=True):
                    variable.assign(value)
            self._state = None

    def _step(self, examples: Any) -> dict[str, Any]:
        logs, self._state = self._function(self._state, as_numpy(examples))
        return logs
