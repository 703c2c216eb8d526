"""The steps of recipe `mnist` on JAX: nothing is changed, and everything is returned.

They are methods of the models in `mnist_model.py`. `state` is the values of the model's variables:
of trainable ones, of others, of the optimizer's, and of the metrics'. A step gives the logs and the
next state. What Keras' objects would change is changed in a `keras.StatelessScope`, and read there.
"""

from collections.abc import Callable
from typing import Any

import jax
import keras


def own_loss_train_step(model: Any, state: Any, data: Any) -> tuple[dict[str, Any], Any]:
    """One update on a batch."""
    x, y = data
    loss, predicted, updated = _update(model, state, x, lambda found: model.loss_of(y, found))
    with _metrics(model, state[-1]) as scope:
        logs = _measure(model, y, predicted, loss)
    return logs, (*updated, _values(model, scope))


def own_loss_test_step(model: Any, state: Any, data: Any) -> tuple[dict[str, Any], Any]:
    """The same without an update; the optimizer is no part of the state."""
    x, y = data
    trainable, others, metrics = state
    predicted, others = model.stateless_call(trainable, others, x, training=False)
    with _metrics(model, metrics) as scope:
        logs = _measure(model, y, predicted, model.loss_of(y, predicted))
    return logs, (trainable, others, _values(model, scope))


def compute_loss_train_step(model: Any, state: Any, data: Any) -> tuple[dict[str, Any], Any]:
    """One update on a batch, by the compiled loss and metrics."""
    x, y = data
    loss, predicted, updated = _update(
        model, state, x, lambda found: model.compute_loss(x, y, found)
    )
    with _metrics(model, state[-1]) as scope:
        model.metrics[0].update_state(loss, sample_weight=y.shape[0])
        logs = dict(model.compute_metrics(x, y, predicted))
    return logs, (*updated, _values(model, scope))


def _update(model: Any, state: Any, x: Any, loss_of: Callable[[Any], Any]) -> Any:
    """(loss, predictions, next state without that of metrics)."""
    trainable, others, optimizer, _ = state

    def forward(trainable: Any, others: Any) -> Any:
        predicted, others = model.stateless_call(trainable, others, x, training=True)
        return loss_of(predicted), (predicted, others)

    with_gradients = jax.value_and_grad(forward, has_aux=True)
    (loss, (predicted, others)), gradients = with_gradients(trainable, others)
    trainable, optimizer = model.optimizer.stateless_apply(optimizer, gradients, trainable)
    return loss, predicted, (trainable, others, optimizer)


def _metrics(model: Any, values: Any) -> Any:
    return keras.StatelessScope(zip(model.metrics_variables, values, strict=True))


def _values(model: Any, scope: Any) -> list[Any]:
    return [scope.get_current_value(variable) for variable in model.metrics_variables]


def _measure(model: Any, y: Any, predicted: Any, loss: Any) -> dict[str, Any]:
    model.mean_loss.update_state(loss, sample_weight=y.shape[0])
    for metric in model.measures:
        metric.update_state(y, predicted)
    return {metric.name: metric.result() for metric in model.metrics}
