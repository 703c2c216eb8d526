"""The steps of recipe `mnist` on TensorFlow: gradients are those of a tape.

They are methods of the models in `mnist_model.py`. A step changes variables where they are, and
runs on each replica with its share of the batch.
"""

from typing import Any

import tensorflow as tf


def own_loss_train_step(model: Any, data: Any) -> dict[str, Any]:
    """One update on one replica's share of a batch."""
    x, y = data
    with tf.GradientTape() as tape:
        predicted = model(x, training=True)
        loss = model.loss_of(y, predicted)
        scaled = model.optimizer.scale_loss(loss)
    variables = model.trainable_variables
    model.optimizer.apply(tape.gradient(scaled, variables), variables)
    return _measure(model, y, predicted, loss)


def own_loss_test_step(model: Any, data: Any) -> dict[str, Any]:
    """The same without an update."""
    x, y = data
    predicted = model(x, training=False)
    return _measure(model, y, predicted, model.loss_of(y, predicted))


def _measure(model: Any, y: Any, predicted: Any, loss: Any) -> dict[str, Any]:
    _count(model.mean_loss, loss, y)
    for metric in model.measures:
        metric.update_state(y, predicted)
    return {metric.name: metric.result() for metric in model.metrics}


def compute_loss_train_step(model: Any, data: Any) -> dict[str, Any]:
    """One update on one replica's share of a batch, by the compiled loss and metrics."""
    x, y = data
    with tf.GradientTape() as tape:
        predicted = model(x, training=True)
        loss = model.compute_loss(x, y, predicted)
        scaled = model.optimizer.scale_loss(loss)
    variables = model.trainable_variables
    model.optimizer.apply(tape.gradient(scaled, variables), variables)
    _count(model.metrics[0], loss, y)
    return dict(model.compute_metrics(x, y, predicted))


def _count(mean_loss: Any, loss: Any, y: Any) -> None:
    # Keras has divided a replica's loss by their number, so that their gradients can be added up;
    # a batch counts as much as it has records.
    replicas = tf.distribute.get_strategy().num_replicas_in_sync
    mean_loss.update_state(loss * replicas, sample_weight=tf.shape(y)[0])
