"""The steps of recipe `mnist` on PyTorch: gradients are left at the variables by `backward`.

They are methods of the models in `mnist_model.py`. A step changes variables where they are.
"""

from typing import Any

import torch


def own_loss_train_step(model: Any, data: Any) -> dict[str, Any]:
    """One update on a batch."""
    x, y = data
    predicted = model(x, training=True)
    loss = model.loss_of(y, predicted)
    _update(model, loss)
    return _measure(model, y, predicted, loss)


def own_loss_test_step(model: Any, data: Any) -> dict[str, Any]:
    """The same without an update."""
    x, y = data
    predicted = model(x, training=False)
    return _measure(model, y, predicted, model.loss_of(y, predicted))


def compute_loss_train_step(model: Any, data: Any) -> dict[str, Any]:
    """One update on a batch, by the compiled loss and metrics."""
    x, y = data
    predicted = model(x, training=True)
    loss = model.compute_loss(x, y, predicted)
    _update(model, loss)
    model.metrics[0].update_state(loss, sample_weight=y.shape[0])
    return dict(model.compute_metrics(x, y, predicted))


def _update(model: Any, loss: Any) -> None:
    model.zero_grad()
    loss.backward()
    variables = model.trainable_variables
    with torch.no_grad():
        model.optimizer.apply([variable.value.grad for variable in variables], variables)


def _measure(model: Any, y: Any, predicted: Any, loss: Any) -> dict[str, Any]:
    model.mean_loss.update_state(loss, sample_weight=y.shape[0])
    for metric in model.measures:
        metric.update_state(y, predicted)
    return {metric.name: metric.result() for metric in model.metrics}
