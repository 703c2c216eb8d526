"""What makes a step on several replicas equal to the same step on one.

Keras divides each replica's mean loss by the number of replicas and sums the gradients. That
is the mean over all records only while every replica has equally many; in an epoch's last
step it is not so. Weighing a replica's loss by `replicas x its records / records of all` makes
it so again: in `scale_loss`, which Keras' train_step and ours call, or else in `apply`, where
all train_steps meet. Clipping, loss scaling and batch normalization look at the records of all
replicas; noise is another on each.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from trainer.errors import ConfigError
from trainer.models.held import READS, held
from trainer.models.optimizers import extend_optimizer, refuse_own_accumulation


def prepare_replicas(model: Any) -> None:
    """Make steps of `model` on several replicas those of one; before they are traced.

    Raises ConfigError for what cannot be right there.
    """
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.synchronized = True
        # Keras lists there what a layer's noise comes from; a generator elsewhere is not saved.
        for generator in layer._seed_generators:
            _extend_generator(generator)
    _check_losses(model)
    for optimizer in optimizers_of(model):
        refuse_own_accumulation(optimizer)
        extend_optimizer(optimizer)


def prepare_device(model: Any, micro_batches: int, *, measures: bool = False) -> None:
    """The same for one device: what a step needs there, and no more.

    measures: the norm of its gradients, too.
    """
    if micro_batches > 1:
        _check_losses(model)
    for optimizer in optimizers_of(model):
        if micro_batches > 1:
            refuse_own_accumulation(optimizer)
        inner = getattr(optimizer, "inner_optimizer", optimizer)
        is_plain = inner is optimizer and not inner.ema_overwrite_frequency
        if micro_batches > 1 or measures or not is_plain:
            extend_optimizer(optimizer)


def _check_losses(model: Any) -> None:
    """ConfigError for a loss that is no mean over records, and so none of the means of parts."""
    way_out = "or set cluster.replicas=1 and train.accumulate_steps=1"
    for loss in tf.nest.flatten(getattr(model, "loss", None)):
        reduction = getattr(loss, "reduction", "sum_over_batch_size")
        if reduction not in ("sum_over_batch_size", "mean"):
            raise ConfigError(
                f"reduction '{reduction}' of {type(loss).__name__} is no mean over records, which "
                f"several replicas and micro-batches need: use sum_over_batch_size, {way_out}"
            )
    if any(getattr(output, "_keras_mask", None) is not None for output in _outputs(model)):
        raise ConfigError(
            "the model masks its outputs, and Keras divides each replica's loss by the entries "
            "that are left there, so that they do not weigh the same: give weights with the "
            f"records instead (x, y, weight), {way_out}"
        )


def _outputs(model: Any) -> list[Any]:
    return list(tf.nest.flatten(getattr(model, "outputs", None) or []))


def means_over_steps(model: Any) -> set[int]:
    """Ids of the variables of the losses of several outputs, of which Keras logs means over steps.

    It counts each part of a step as one, however many records there are in it.
    """
    metrics = getattr(getattr(model, "_compile_loss", None), "metrics", [])
    return {id(variable) for metric in metrics for variable in metric.variables}


def metrics_of_all(model: Any, strategy: Any) -> dict[str, Any]:
    """The model's metrics over the records of all replicas, from one all-reduce.

    Read where they are used, each variable is one: 0.3 ms between two processes, at every step.
    """
    variables = [v for v in model.metrics_variables if v.aggregation == "sum"]
    if not variables:
        return dict(model.get_metrics_result())

    def add_up() -> Any:
        values = [_value(variable).read_value() for variable in variables]
        context = tf.distribute.get_replica_context()
        return context.all_reduce(tf.distribute.ReduceOp.SUM, values)

    sums = [strategy.experimental_local_results(copies)[0] for copies in strategy.run(add_up)]
    with keras.StatelessScope(state_mapping=zip(variables, sums, strict=True)):
        return dict(model.get_metrics_result())


def updated_metrics(model: Any, step: Callable[[], Any]) -> tuple[Any, set[str]]:
    """What a step returns that is traced now, and the names of the model's metrics that it updates.

    Others of these names are values of the step's own.
    """
    graph = tf.zeros([]).graph
    before = len(graph.get_operations())
    returned = step()
    changing = [op for op in graph.get_operations()[before:] if op.type not in READS]
    touched = {id(tensor) for op in changing for tensor in op.inputs}
    names: set[str] = set()
    for metric in model.metrics:
        # This replica's own copies: others are traced at the same time.
        handles = [graph.capture(variable.value.handle) for variable in metric.variables]
        if touched & {id(handle) for handle in handles}:
            result = metric.result()
            names |= set(result) if isinstance(result, dict) else {metric.name}
    return returned, names


def loss_scale_of(model: Any) -> Any:
    """The variable by which losses are multiplied, None without one; of a built optimizer."""
    return getattr(getattr(model, "optimizer", None), "dynamic_scale", None)


def optimizers_of(model: Any) -> Iterator[Any]:
    """The model's optimizer, if it has one, and those that its train_step may call beside it."""
    own = getattr(model, "optimizer", None)
    inner = getattr(own, "inner_optimizer", None)
    if own is not None:
        yield own
    for _, found in held(model):
        if isinstance(found, keras.Optimizer) and found is not own and found is not inner:
            yield found


def _extend_generator(generator: Any) -> None:
    cls = type(generator)
    if not issubclass(cls, _OwnNoise):
        members = {"__module__": cls.__module__, "__qualname__": cls.__qualname__}
        generator.__class__ = type(cls.__name__, (_OwnNoise, cls), members)


class _OwnNoise:
    """Mixed into a SeedGenerator's class: each replica draws another seed, from equal states."""

    def next(self, ordered: bool = True) -> Any:
        seed = super().next(ordered)  # type: ignore[misc]
        context = tf.distribute.get_replica_context()
        if context is None or context.num_replicas_in_sync == 1:
            return seed
        replica = tf.cast(context.replica_id_in_sync_group, seed.dtype)
        return tf.random.experimental.stateless_fold_in(seed, replica)


def local_values(variable: Any) -> list[tf.Variable]:
    """The copies that one variable has on this worker's replicas, in replica order.

    One entry for a plain variable and for a mirrored one (its copies are equal); one a
    replica for a variable that replicas update on their own, as metrics do.
    """
    value = _value(variable)
    if not isinstance(value, tf.distribute.DistributedValues):
        return [value]
    copies = value.values
    is_mirrored = "OnRead" not in type(value).__name__
    return [copies[0]] if is_mirrored else list(copies)


class GroupReplicas:
    """This worker's replicas, `first` to `first + count`, among the `total` of all workers."""

    def __init__(self, strategy: Any, *, first: int, count: int, total: int) -> None:
        self._strategy = strategy
        self._first, self._count, self._total = first, count, total
        self._gathered: Any = None

    def gather(self, variables: list[Any]) -> list[list[Any]]:
        """For each variable what every replica holds, in replica order; of all workers together.

        The variables must be the same each time.
        """
        if self._gathered is None:
            # A function of no arguments: variables given to one would come as their values.
            self._gathered = tf.function(
                lambda: self._strategy.run(partial(_stacked, variables)), autograph=False
            )
        found = self._gathered()
        local = self._strategy.experimental_local_results
        return [list(local(values)[0].numpy()) for values in found]

    def assign(self, variable: Any, arrays: list[Any]) -> None:
        """Put back what `gather` gave of a variable, also at another number of replicas."""
        own = _spread(arrays, self._total)[self._first : self._first + self._count]
        for copy, array in zip(local_values(variable), own, strict=True):
            copy.assign(array)


def _stacked(variables: list[Any]) -> list[Any]:
    """What all replicas hold, along a new first axis; called in the context of each."""
    gather = tf.distribute.get_replica_context().all_gather
    return [gather(_value(variable).read_value()[tf.newaxis], axis=0) for variable in variables]


def make_total(strategy: Any, replicas: int) -> Callable[[NDArray[Any]], NDArray[Any]]:
    """A function that returns what all workers call it with, added up.

    float64 [N], the same N everywhere; each worker counts once, and has so many replicas.
    """

    @tf.function(autograph=False)
    def total(values: Any) -> Any:
        summed = strategy.run(lambda: values)
        return strategy.reduce(tf.distribute.ReduceOp.SUM, summed, axis=None)

    def of_all(values: NDArray[Any]) -> NDArray[Any]:
        return np.asarray(total(tf.constant(values, tf.float64))) / replicas

    return of_all


def _value(variable: Any) -> Any:
    return variable.value if isinstance(variable, keras.Variable) else variable


def assign_everywhere(variable: Any, arrays: list[Any]) -> None:
    """Put back what `local_values` gave, also at another number of replicas."""
    copies = local_values(variable)
    arrays = _spread(arrays, len(copies))
    if len(copies) == 1:
        variable.assign(arrays[0])
        return
    for copy, array in zip(copies, arrays, strict=True):
        copy.assign(array)


def _spread(arrays: list[Any], replicas: int) -> list[Any]:
    """The same over another number of replicas.

    Sums go to the first one: their total is what counts, and reading them back through a mirrored
    value rounds.
    """
    if len(arrays) == replicas:
        return arrays
    total = arrays[0]
    for array in arrays[1:]:
        total = total + array
    return [total] + [0 * total] * (replicas - 1)
