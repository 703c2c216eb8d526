"""Everything a resumed run needs of the model and its optimizer, as named host arrays.

An array's name is role/ordinal/path: paths alone collide in subclassed models. Roles: `model`
(weights, statistics, seed generators), `optimizer` (iteration, learning rate, slots),
`metric` (one array a replica) and `callback` (arrays of callbacks' states). What else hangs on
the model has the path of its attributes.

Names, shapes and floats are the same on all of Keras' backends. Whole numbers, such as seeds and
iterations, have other widths on each: they go by their value.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from trainer.backends import this_backend
from trainer.checkpoint.array_names import counted_on, renamed, split_replica
from trainer.checkpoint.format import Arrays, check_array
from trainer.checkpoint.shared import Shared, match_shared
from trainer.errors import CheckpointError, ConfigError
from trainer.models.held import changed_by, drawn_by, held
from trainer.models.replicas import GroupReplicas, assign_everywhere, local_values

_ROLES = ("model", "optimizer", "metric")
_SHOWN = 12


@dataclass(frozen=True)
class _Named:
    """A variable of Keras or TensorFlow and the name of its array."""

    name: str
    variable: Any

    @property
    def is_per_replica(self) -> bool:
        return self.name.startswith("metric/")


@dataclass(frozen=True)
class _Form:
    """What an array must be like."""

    dtype: Any
    shape: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.dtype} {self.shape}"

    def takes(self, other: "_Form") -> bool:
        """Whether an array of the other form can be put in the place of one of this."""
        are_whole = self.dtype.kind in "iu" and other.dtype.kind in "iu"
        return self.shape == other.shape and (self.dtype == other.dtype or are_whole)


class ModelState:
    """The variables of a built model with a built optimizer.

    In a `group` of workers, snapshots are taken by all of them together.
    """

    def __init__(self, model: Any, *, group: GroupReplicas | None = None) -> None:
        self._group = group
        self._read = this_backend().read
        roles = {
            "model": [(v.path, v) for v in model.variables],
            "optimizer": [(v.path, v) for v in model.optimizer.variables],
            "metric": [(v.path, v) for metric in model.metrics for v in metric.variables],
        }
        self._optimizers = {"optimizer": model.optimizer}
        known = {id(variable) for named in roles.values() for _, variable in named}
        for path, found in held(model):
            if isinstance(found, keras.Optimizer) and found is not model.optimizer:
                self._optimizers[path] = found
            for role, name, variable in _variables_of(path, found):
                if id(variable) not in known:
                    known.add(id(variable))
                    roles[role].append((name, variable))
        self._variables = [
            _Named(f"{role}/{ordinal:04d}/{name}", variable)
            for role, named in roles.items()
            for ordinal, (name, variable) in enumerate(named)
        ]
        for entry in self._variables:
            dtype = np.dtype(_numpy_dtype(entry.variable)).name
            check_array(entry.name, dtype, _fixed_shape(entry))
        rates = {name: optimizer.learning_rate for name, optimizer in self._optimizers.items()}
        # As the recipe built each optimizer, by its attribute; a schedule's rate is no variable.
        self.built_rates = {
            name: float(local_values(rate)[0])
            for name, rate in rates.items()
            if isinstance(rate, keras.Variable)
        }
        self._buffers: dict[str, Any] = {}

    def snapshot(self) -> dict[str, Any]:
        """Copies of all variables; valid until the next snapshot, which reuses the memory.

        This is all that training waits for, so it is one plain copy into memory that is
        already there: fresh memory would cost two to three times as much in page faults.
        """
        for name, tensor in self._tensors():
            source = np.asarray(tensor)
            buffer = self._buffers.get(name)
            if buffer is None:
                self._buffers[name] = source.copy()
            else:
                np.copyto(buffer, source)
        return dict(self._buffers)

    def copies(self) -> dict[str, Any]:
        """The same, in memory of their own."""
        return {name: np.array(tensor) for name, tensor in self._tensors()}

    def _tensors(self) -> Iterator[tuple[str, Any]]:
        gathered = self._gathered()
        for entry in self._variables:
            values = gathered.get(entry.name) or map(self._read, local_values(entry.variable))
            for replica, value in enumerate(values):
                suffix = f"/replica-{replica}" if entry.is_per_replica else ""
                yield entry.name + suffix, value

    def _gathered(self) -> dict[str, list[Any]]:
        """What replicas hold on their own, by name; nothing where all are in this process."""
        if self._group is None:
            return {}
        own = [entry for entry in self._variables if entry.is_per_replica]
        found = self._group.gather([entry.variable for entry in own])
        return {entry.name: values for entry, values in zip(own, found, strict=True)}

    def set_changed_rates(self, saved: Mapping[str, float]) -> None:
        """Give optimizers the rate that they were built with, where the `saved` one is another.

        A schedule is built anew, and so follows every change.
        """
        for name, rate in self.built_rates.items():
            if saved.get(name, rate) != rate:
                self._optimizers[name].learning_rate = rate

    def check_step(self, function: Any) -> None:
        """ConfigError when a compiled step changes, or draws from, what would not be saved."""
        drawn = drawn_by(function)
        if drawn:
            raise ConfigError(
                f"the model's step draws by {', '.join(drawn)} from a state that no checkpoint "
                "would hold: use keras.random, with a keras.random.SeedGenerator that is an "
                "attribute of the model or of a layer"
            )
        changed = changed_by(function, [entry.variable for entry in self._variables])
        if changed:
            raise ConfigError(
                f"the model's step changes variables that no checkpoint would hold: "
                f"{', '.join(changed[:_SHOWN])}: make them, or the optimizer that they are of, "
                "attributes of the model, and build that optimizer (optimizer.build) with the model"
            )

    def untrained(self) -> dict[str, Any]:
        """Copies of the model's non-trainable variables: seeds and statistics."""
        return {
            entry.name: np.array(self._read(local_values(entry.variable)[0]))
            for entry in self._variables
            if entry.name.startswith("model/") and not _is_weight(entry.variable)
        }

    def restore(self, arrays: Arrays) -> None:
        """Assign every variable; another number of replicas is fine.

        Raises CheckpointError, with a diff, when the arrays are not those of this model.
        """
        self.check(arrays)
        by_variable: dict[str, list[Any]] = {}
        for name in sorted(arrays, key=split_replica):
            by_variable.setdefault(split_replica(name)[0], []).append(arrays[name])
        for entry in self._variables:
            found = [_fitted(array, entry) for array in by_variable[entry.name]]
            if entry.is_per_replica and self._group is not None:
                self._group.assign(entry.variable, found)
            else:
                assign_everywhere(entry.variable, found)

    def named(self, arrays: Arrays) -> dict[str, Any]:
        """The arrays under this model's names, where only Keras' own counts differ."""
        known = counted_on(_forms(arrays, _ROLES), self._forms(_ROLES))
        return {renamed(name, known): array for name, array in arrays.items()}

    def restore_weights(self, arrays: Arrays) -> None:
        """Assign the model's weights alone: the warm start of a new run."""
        self.check(
            arrays, roles=("model",),
            way_out="use the recipe and parameters of that run, or take the layers alone that both "
            "models have: train.start_layers=shared",
        )  # fmt: skip
        for entry in self._variables:
            if _is_warm(entry.name):
                entry.variable.assign(_fitted(arrays[entry.name], entry))

    def restore_shared(self, arrays: Arrays) -> Shared:
        """Assign those weights alone that are of layers which the other model has, too.

        Raises CheckpointError, and changes nothing, when there are none or it is not clear which.
        """
        wanted, given = self._forms(("model",)), _forms(arrays, ("model",))
        shared = match_shared(
            {name: str(form) for name, form in wanted.items() if _is_warm(name)},
            {name: str(form) for name, form in given.items() if _is_warm(name)},
        )
        for entry in self._variables:
            if entry.name in shared.taken:
                entry.variable.assign(arrays[shared.taken[entry.name]])
        return shared

    def _forms(self, roles: tuple[str, ...]) -> dict[str, _Form]:
        return {
            e.name: _Form(np.dtype(_numpy_dtype(e.variable)), tuple(e.variable.shape))
            for e in self._variables
            if e.name.split("/")[0] in roles
        }

    def check(
        self,
        arrays: Arrays,
        roles: tuple[str, ...] = _ROLES,
        way_out: str = "use the recipe and parameters that the run was started with, or another "
        "run.dir",
    ) -> None:
        """CheckpointError unless names, shapes and dtypes are those of this model."""
        wanted, given = self._forms(roles), _forms(arrays, roles)
        lines = [
            f"  {name}: checkpoint {given.get(name, 'absent')}, model {wanted.get(name, 'absent')}"
            for name in sorted(wanted.keys() | given.keys())
            if name not in wanted or name not in given or not wanted[name].takes(given[name])
        ]
        if not lines:
            return
        more = [f"  and {len(lines) - _SHOWN} more"] if len(lines) > _SHOWN else []
        raise CheckpointError(
            "the checkpoint is of another model or optimizer:\n"
            + "\n".join([*lines[:_SHOWN], *more, way_out])
        )


def _forms(arrays: Arrays, roles: tuple[str, ...]) -> dict[str, _Form]:
    """By name; metrics once for all replicas."""
    return {
        split_replica(name)[0]: _Form(array.dtype, array.shape)
        for name, array in arrays.items()
        if name.split("/")[0] in roles
    }


def _is_warm(name: str) -> bool:
    """Whether a new run may start with it: weights and statistics, but no seeds."""
    return name.startswith("model/") and "seed_generator_state" not in name


def _fitted(array: Any, entry: _Named) -> Any:
    """The array with the width of the variable's whole numbers."""
    dtype = np.dtype(_numpy_dtype(entry.variable))
    if array.dtype == dtype:
        return array
    fitted = array.astype(dtype)
    if not np.array_equal(fitted, array):
        raise CheckpointError(
            f"{entry.name} of the checkpoint holds {array.tolist()}, which is beyond {dtype}: go "
            "on with the KERAS_BACKEND that it was written with"
        )
    return fitted


def _variables_of(path: str, found: Any) -> Iterator[tuple[str, str, Any]]:
    """(role, name, variable) of all that an optimizer, a metric or a variable holds."""
    if isinstance(found, keras.Variable | tf.Variable):
        yield "model", path, found
        return
    role = "optimizer" if isinstance(found, keras.Optimizer) else "metric"
    for variable in found.variables:
        yield role, f"{path}/{variable.path}", variable


def _is_weight(variable: Any) -> bool:
    # A tf.Variable of a user's is called trainable even where it counts steps.
    return isinstance(variable, keras.Variable) and variable.trainable


def _fixed_shape(entry: _Named) -> tuple[int, ...]:
    shape = tf.TensorShape(entry.variable.shape)
    if not shape.is_fully_defined():
        raise ConfigError(f"variable {entry.name} has no fixed shape: a checkpoint cannot hold it")
    return tuple(shape)


def _numpy_dtype(variable: Any) -> Any:
    return tf.as_dtype(variable.dtype).as_numpy_dtype
