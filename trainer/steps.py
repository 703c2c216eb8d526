"""What a loop drives, whatever runs it: steps of a model, any number of them a call."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from trainer.errors import ConfigError

GRADIENT_NORM = "gradient_norm"


@dataclass(frozen=True)
class CallResult:
    """What one call of the compiled function did.

    `logs` are float32 [steps] by name; `ended` and `waited` float64 [steps]: Unix time of each
    step's end and seconds that it waited for data, both filled in between the steps timed. What
    the clock itself takes is taken off the waits: no wait may be a little below 0.
    `overflowed_at` float32 [steps]: the loss scale of each step that was skipped because scaled
    gradients overflowed, 0 of the others; None without loss scaling.
    `next_size` is how many steps the next call has to have, where workers had to agree on it.
    """

    logs: dict[str, Any]
    ended: Any
    waited: Any
    overflowed_at: Any = None
    next_size: int | None = None

    @property
    def num_steps(self) -> int:
        """Steps done."""
        return len(self.ended)

    def step_logs(self, index: int) -> dict[str, float]:
        """Logs of one step, as Keras hands them to callbacks."""
        return {name: float(values[index]) for name, values in self.logs.items()}


class Steps(Protocol):
    """What a loop drives: steps of a model, any number of them a call."""

    def __call__(self, iterator: Any, num_steps: int, wanted_size: int = 1) -> CallResult:
        """Run `num_steps` steps on the next elements of `iterator`."""
        ...

    def check(self, iterator: Any) -> None:
        """What can be said of the steps before the first one."""
        ...


def flat_logs(logs: Any) -> dict[str, Any]:
    """Logs of a step by name; a metric that holds several, as compiled ones do, gives them all."""
    if not isinstance(logs, Mapping):
        given = "nothing" if logs is None else f"a {type(logs).__name__}"
        raise ConfigError(f"{_RETURN}, and it returned {given}")
    flat: dict[Any, Any] = {}
    for name, value in logs.items():
        flat |= value if isinstance(value, dict) else {name: value}
    for name, value in flat.items():
        if not isinstance(name, str):
            raise ConfigError(f"{_RETURN}, and one has the name {name!r}")
        if (shape := _known_shape(value)) is not None and math.prod(shape) != 1:
            raise ConfigError(f"{_RETURN}, and {name} has the shape {shape}")
    return flat


_RETURN = (
    "the model's step must return a dictionary of numbers by name, as {'loss': loss, 'accuracy': …}"
)


def _known_shape(value: Any) -> tuple[int, ...] | None:
    """Of a tensor or an array; () of a number, None where it is not known yet."""
    shape = getattr(value, "shape", ())
    if getattr(shape, "rank", 0) is None or None in tuple(shape):
        return None
    return tuple(shape)
