"""`train_step` or `test_step` of a model, compiled to run any number of steps a call."""

import math
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from trainer.agreement import Agreement
from trainer.models.micro_batches import MicroBatches
from trainer.models.optimizers import replica_step
from trainer.models.replicas import (
    local_values,
    loss_scale_of,
    means_over_steps,
    metrics_of_all,
    prepare_device,
    prepare_replicas,
    updated_metrics,
)
from trainer.steps import GRADIENT_NORM, CallResult, flat_logs

# A clock in the graph enters Python and costs up to 60 µs: one step in so much time is enough.
_CLOCK_SECONDS = 0.1


class CompiledSteps:
    """A step of a model, compiled to run any number of times a call.

    step: `train_step` or `test_step`, or a function of a replica's data in place of them.
    clock_every: of so many steps, one is timed; follows the speed that calls have.
    check: is given the concrete function before the first step, and may raise.
    micro_batches: in so many parts each replica's share of a step is worked on, one by one.
    gradient_norm: whether it is one of the logs.
    """

    def __init__(
        self, model: Any, strategy: Any, step: str | Callable[[Any], Any], *,
        check: Callable[[Any], None] | None = None, micro_batches: int = 1,
        agreement: Agreement | None = None, gradient_norm: bool = False,
    ) -> None:  # fmt: skip
        self._measures = gradient_norm
        self._model = model
        self._check = check
        self._agreement = agreement
        self._strategy = strategy
        self._is_own = not isinstance(step, str)
        self._step = step if callable(step) else getattr(model, step)
        self._names: list[str] = []
        self._updated: set[str] = set()  # metrics of the model that a step of one's own updates
        self._is_distributed = strategy.num_replicas_in_sync > 1
        self._parts = MicroBatches(model, micro_batches) if micro_batches > 1 else None
        self._scale = loss_scale_of(model) if step != "test_step" else None
        if self._is_distributed:
            prepare_replicas(model)
        else:
            prepare_device(model, micro_batches, measures=gradient_norm)
        # As in fit, a step is traced as it is: rewriting it by AutoGraph is a third of a start.
        self._function = tf.function(self._run, reduce_retracing=True, autograph=False)
        self.clock_every = 1

    def __call__(self, iterator: Any, num_steps: int, wanted_size: int = 1) -> CallResult:
        """Run `num_steps` steps on the next elements of `iterator`.

        wanted_size: of the next call, for the agreement with other workers.
        """
        self.check(iterator)
        started = time.monotonic()
        ballot = self._agreement and self._agreement.ballot(wanted_size)
        logs, times, totals = self._function(
            iterator, tf.constant(num_steps), tf.constant(self.clock_every), ballot
        )
        logs, times, ended = logs.numpy(), times.numpy(), time.time()
        seconds = time.monotonic() - started
        # Odd, so that timed steps are now the first and now the last of what the pipeline
        # delivers together.
        self.clock_every = int(_CLOCK_SECONDS * num_steps / seconds) | 1
        by_name = {name: logs[:, column] for column, name in enumerate(self._names)}
        overflowed_at = None if self._scale is None else logs[:, -1]
        next_size = None
        if self._agreement is not None and totals is not None:
            next_size = self._agreement.count(totals.numpy())
        return CallResult(by_name, *_fill_times(times, ended), overflowed_at, next_size)

    def check(self, iterator: Any) -> None:
        """Compile the steps and have them checked, once; not where they run as they are written."""
        if self._check is not None and not tf.config.functions_run_eagerly():
            one = tf.constant(1)
            ballot = self._agreement and self._agreement.ballot(1)
            self._check(self._function.get_concrete_function(iterator, one, one, ballot))
            self._check = None

    def _run(self, iterator: Any, num_steps: Any, clock_every: Any, ballot: Any) -> Any:
        totals = None if ballot is None else self._count(ballot)
        logs = tf.TensorArray(tf.float32, size=num_steps, element_shape=[None])
        times = tf.TensorArray(tf.float64, size=num_steps, element_shape=[3])

        def body(index: Any, logs: Any, times: Any) -> Any:
            is_timed = tf.equal(index % clock_every, 0)
            before = _now_if(is_timed, [])
            started = _now_if(is_timed, [before])
            with tf.control_dependencies([started]):
                element = self._next(iterator)
            fetched = _now_if(is_timed, _tensors(element))
            logs = logs.write(index, self._global_step(element))
            return index + 1, logs, times.write(index, [before, started, fetched])

        _, logs, times = tf.while_loop(
            lambda index, *_: index < num_steps, body, (tf.constant(0), logs, times),
            parallel_iterations=1,
        )  # fmt: skip
        return logs.stack(), times.stack(), totals

    def _count(self, ballot: Any) -> Any:
        """The sum over all replicas of all workers."""
        votes = self._strategy.run(tf.identity, args=(ballot,))
        return self._strategy.reduce(tf.distribute.ReduceOp.SUM, votes, axis=None)

    def _next(self, iterator: Any) -> Any:
        """An element for each replica of this worker.

        Not by an iterator that TensorFlow distributes: for each device that makes a dataset of its
        own, with the tuner that ours is without (see `Pipeline`), and its end waits for it.
        """
        if not self._is_distributed:
            return iterator.get_next()
        own = [iterator.get_next() for _ in self._strategy.extended.worker_devices]
        return self._strategy.experimental_distribute_values_from_function(
            lambda context: own[context.replica_id_in_sync_group % len(own)]
        )

    def _global_step(self, element: Any) -> Any:
        """float32 [logs]: one step's logs in the order of `_names`, and then `overflowed_at`."""
        scale = None if self._scale is None else tf.identity(_first_copy(self._scale))
        if self._parts:
            outputs = self._global_parts(self._parts, element)
        else:
            outputs = self._strategy.run(self._replica_step, args=(element,))
        if self._is_distributed or self._parts:
            metrics = metrics_of_all(self._model, self._strategy)
            outputs = {
                name: metrics[name] if self._is_metric(name, metrics) else self._mean(value)
                for name, value in outputs.items()
            }
        # In the order in which Keras hands logs to callbacks.
        self._names = sorted(outputs)
        logs = _stack([outputs[name] for name in self._names])
        if scale is None:
            return logs
        # A step that is skipped, and no other, lowers the scale.
        overflowed = _first_copy(self._scale) < scale
        return tf.concat([logs, [tf.where(overflowed, scale, 0.0)]], axis=0)

    def _replica_step(self, element: Any) -> dict[str, Any]:
        data, shares = element
        if self._is_distributed:
            with replica_step(shares[0, 0], measures=self._measures) as step:
                outputs = self._counted_step(data, shares[0])
        else:
            with replica_step(measures=self._measures) as step:
                outputs = flat_logs(self._step(data))
        return outputs | ({GRADIENT_NORM: step.gradient_norm} if self._measures else {})

    def _counted_step(self, data: Any, share: Any) -> dict[str, Any]:
        """One replica's logs, weighted so that their mean over replicas is that over records."""
        weight, is_counted = share[0], share[1] > 0
        before = [(v, v.value.read_value()) for v in self._model.metrics_variables]
        outputs, self._updated = updated_metrics(self._model, lambda: flat_logs(self._step(data)))
        weighted = means_over_steps(self._model)
        for variable, value in before:
            now = variable.value.read_value()
            # A replica without a record of this step ran on copies of others': forget its metrics.
            is_mean = id(variable) in weighted
            variable.assign(
                value + (now - value) * weight if is_mean else tf.where(is_counted, now, value)
            )
        return {name: tf.cast(value, tf.float32) * weight for name, value in outputs.items()}

    def _global_parts(self, parts: MicroBatches, element: Any) -> dict[str, Any]:
        """One step's logs from one micro-batch after the other, and one update."""
        names: list[str] = []

        def replica_part(element: Any, part: Any, sums: Any) -> Any:
            data, shares = element
            share = shares[part]
            with replica_step(share[0] / parts.count, collects=True) as step:
                outputs = self._counted_step(parts.rows(data, shares, part), share)
            names[:] = sorted(outputs)
            return parts.add(sums, step), _stack([outputs[name] for name in names])

        def body(part: Any, sums: Any, logs: Any) -> Any:
            sums, values = self._strategy.run(replica_part, args=(element, part, sums))
            return part + 1, sums, logs.write(part, self._mean(values))

        logs = tf.TensorArray(tf.float32, size=parts.count, element_shape=[None])
        _, sums, logs = tf.while_loop(
            lambda part, *_: part < parts.count, body,
            (tf.constant(0), self._strategy.run(parts.zeros), logs), parallel_iterations=1,
        )  # fmt: skip
        means = tf.reduce_mean(logs.stack(), axis=0)
        outputs = {name: means[index] for index, name in enumerate(names)}
        if self._measures:
            norms = self._strategy.run(parts.measured_apply, args=(sums,))
            return outputs | {GRADIENT_NORM: self._mean(norms)}
        self._strategy.run(parts.apply, args=(sums,))
        return outputs

    def _is_metric(self, name: str, metrics: Mapping[str, Any]) -> bool:
        return name in metrics and (name in self._updated or not self._is_own)

    def _mean(self, value: Any) -> Any:
        return self._strategy.reduce(tf.distribute.ReduceOp.MEAN, value, axis=None)


def _stack(values: list[Any]) -> Any:
    return tf.stack([tf.reshape(tf.cast(value, tf.float32), []) for value in values])


def _first_copy(variable: Any) -> Any:
    return local_values(variable)[0].read_value()


def _now_if(condition: Any, after: list[Any]) -> Any:
    """Unix time in seconds once the tensors `after` are there, float64 []; NaN if not asked."""

    # tf.timestamp would do, but it is refused under enable_op_determinism.
    def now() -> Any:
        seconds = tf.numpy_function(time.time, [], tf.float64)
        seconds.set_shape([])
        return seconds

    with tf.control_dependencies(after):
        return tf.cond(condition, now, lambda: tf.constant(math.nan, tf.float64))


def _fill_times(times: Any, ended: float) -> tuple[Any, Any]:
    """(ends, waits) float64 [steps] of all steps from the timed ones.

    `times` float64 [steps, 3]: start, start once more, arrival of data; NaN where not timed; the
    first step is. The first two are as far apart as the clock is slow. `ended`: Unix time of the
    last step's end. In between, steps are taken as equally long, and their waits as that of the
    timed step before.
    """
    num_steps = len(times)
    timed = np.flatnonzero(~np.isnan(times[:, 0]))
    known = np.append(times[timed, 0], ended)
    starts = np.interp(np.arange(num_steps + 1), np.append(timed, num_steps), known)
    before, started, arrived = times[timed].T
    waits = (arrived - started) - (started - before)
    return starts[1:], np.repeat(waits, np.diff(np.append(timed, num_steps)))


def _tensors(element: Any) -> list[Any]:
    per_replica = tf.nest.flatten(element, expand_composites=True)
    return [tensor for tensor in per_replica if tf.is_tensor(tensor)]
