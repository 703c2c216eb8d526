"""What differs between Keras' backends: the same few functions, once for each of them."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import keras

from trainer.agreement import Agreement
from trainer.config import RunConfig
from trainer.steps import Steps


class Backend(Protocol):
    """A module of this package; all other code is the same for each of them."""

    # Formats of export.formats that Keras can write.
    FORMATS: Sequence[str]
    # Errors of a step that may not come another time.
    PASSING: tuple[type[BaseException], ...]

    def prepare(self, config: RunConfig) -> list[str]:
        """Threads and devices, before the first operation; returns the devices to train on.

        Raises ConfigError when there are fewer devices than asked.
        """
        ...

    def run_eagerly(self) -> None:
        """From here on, run steps line by line, as they are written, instead of compiled."""
        ...

    def version(self) -> str:
        """Of the package that computes."""
        ...

    def gpu_memory(self) -> list[tuple[int, int]]:
        """Bytes that are used on each GPU, now and at most so far; empty without a GPU."""
        ...

    def check_model(self, model: Any) -> None:
        """Make a model ready to be built; ConfigError when its steps are another backend's."""
        ...

    def as_data(self, element: Any) -> Any:
        """What tf.data delivered, as a model takes it."""
        ...

    def first_pass(self, model: Any, strategy: Any, data: Any, /) -> None:
        """Create every variable of a model and of its metrics by one pass over `data`."""
        ...

    def read(self, value: Any) -> Any:
        """What one copy of a variable holds, as numpy can take it; a view where that is faster."""
        ...

    def make_steps(
        self, model: Any, strategy: Any, step: str | Callable[..., Any], /, *,
        check: Callable[[Any], None] | None = None, micro_batches: int = 1,
        agreement: Agreement | None = None, gradient_norm: bool = False,
    ) -> Steps:  # fmt: skip
        """One of the model's steps or another, to run any number of times a call: CompiledSteps."""
        ...

    def make_predict(self, model: Any) -> Callable[[Any], Any]:
        """A function from a batch as tf.data delivered it to outputs; it changes no variable."""
        ...


def this_backend() -> Backend:
    """That of this process, which was chosen when Keras was imported."""
    name = keras.backend.backend()
    if name == "jax":
        from trainer.backends import jax_backend

        return jax_backend
    if name == "torch":
        from trainer.backends import torch_backend

        return torch_backend
    from trainer.backends import tensorflow_backend

    return tensorflow_backend
