"""Keras on PyTorch: a step runs as it is written, operation by operation."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import keras
import tensorflow as tf
import torch

from trainer.backends.host_steps import HostSteps, as_numpy, step_of
from trainer.backends.host_steps import first_pass as pass_over
from trainer.backends.tensorflow_backend import set_threads
from trainer.config import RunConfig
from trainer.errors import ConfigError
from trainer.steps import flat_logs

FORMATS: Sequence[str] = ("keras",)
PASSING: tuple[type[BaseException], ...] = (torch.OutOfMemoryError, tf.errors.OpError)
_ARGUMENTS = ("data",)


def prepare(config: RunConfig) -> list[str]:
    """See `Backend`. Keras has chosen the device when it was imported."""
    set_threads(config.train.threads)  # of the data
    torch.set_num_threads(config.train.threads)
    torch.use_deterministic_algorithms(config.train.deterministic)
    found = keras.ops.zeros(()).device.type
    kind = "gpu" if found == "cuda" else found
    if config.cluster.device not in ("auto", kind):
        raise ConfigError(
            f"cluster.device: {config.cluster.device}, but Keras computes on {found}: set "
            "KERAS_TORCH_DEVICE to cpu or cuda, or cluster.device=auto"
        )
    return [f"/{kind}:0"]


def run_eagerly() -> None:
    """See `Backend`; nothing is compiled here."""


def version() -> str:
    """PyTorch's."""
    return str(torch.__version__)


def gpu_memory() -> list[tuple[int, int]]:
    """See `Backend`."""
    gpus = range(torch.cuda.device_count())
    return [(torch.cuda.memory_allocated(n), torch.cuda.max_memory_allocated(n)) for n in gpus]


def check_model(model: Any) -> None:
    """See `Backend`."""
    for name in ("train_step", "test_step"):
        step_of(model, name, _ARGUMENTS)


def as_data(element: Any) -> Any:
    """Tensors of PyTorch, on the device that Keras computes on."""
    return tf.nest.map_structure(keras.ops.convert_to_tensor, as_numpy(element))


def first_pass(model: Any, _strategy: Any, data: Any) -> None:
    """See `Backend`."""
    with torch.no_grad():
        pass_over(model, data)
    # Where none was given a seed, Keras' dropout is PyTorch's, which draws from the process's own
    # generator: no variable holds its state, and a run that goes on would have other masks.
    for layer in model._flatten_layers():
        for generator in layer._seed_generators:
            generator._initial_seed = generator._initial_seed or 0


def read(value: Any) -> Any:
    """An array that shares the variable's memory, on a CPU."""
    return keras.ops.convert_to_numpy(value)


def make_predict(model: Any) -> Callable[[Any], Any]:
    """See `Backend`; without training, layers draw no noise."""

    def predict(x: Any) -> Any:
        with torch.no_grad():
            outputs = model(as_data(x), training=False)
        return tf.nest.map_structure(keras.ops.convert_to_numpy, outputs)

    return predict


def make_steps(model: Any, _strategy: Any, step: Any, **_options: Any) -> HostSteps:
    """See `Backend`; there is one device, one worker and one micro-batch."""
    return EagerSteps(model, step)


class EagerSteps(HostSteps):
    """A step, and what Keras' fit and evaluate put around it on PyTorch."""

    def __init__(self, model: Any, step: Any) -> None:
        self._model = model
        self._is_training = step != "test_step"
        self._function = step_of(model, step, _ARGUMENTS)

    @contextmanager
    def _call(self) -> Iterator[None]:
        self._model.train(self._is_training)  # for layers made of PyTorch's modules
        with torch.set_grad_enabled(self._is_training):
            yield

    def _step(self, examples: Any) -> dict[str, Any]:
        logs = self._function(as_data(examples))
        return tf.nest.map_structure(_taken, flat_logs(logs))


def _taken(value: Any) -> Any:
    """A result may be the metric's own variable, which the next step changes."""
    return value.detach().clone() if torch.is_tensor(value) else value
