"""A training loop by hand: steps of its own, and its own sums of what they report.

It comes to the weights of the usual loop. It is here to be copied by who wants to order things
in another way; what a body may use is in `trainer.loop.TrainLoop`.
"""

from typing import Any

import keras
import tensorflow as tf

from trainer.calls import Logs
from trainer.loop import TrainLoop

_NAMES = ("loss", "accuracy")


def classify(run: TrainLoop) -> None:
    """Train `run.model`, which gives probabilities [n, classes] for (x, int [n]).

    A third of the data weighs the losses of records, and not what is right.
    """
    model = run.model
    loss_of = keras.losses.SparseCategoricalCrossentropy()

    def train(data: Any) -> dict[str, Any]:
        x, y, weight = keras.utils.unpack_x_y_sample_weight(data)
        with tf.GradientTape() as tape:
            predicted = model(x, training=True)
            loss = loss_of(y, predicted, sample_weight=weight)
            scaled = model.optimizer.scale_loss(loss)
        variables = model.trainable_variables
        model.optimizer.apply(tape.gradient(scaled, variables), variables)
        return measure(y, predicted, loss)

    def test(data: Any) -> dict[str, Any]:
        x, y, weight = keras.utils.unpack_x_y_sample_weight(data)
        predicted = model(x, training=False)
        return measure(y, predicted, loss_of(y, predicted, sample_weight=weight))

    def measure(y: Any, predicted: Any, loss: Any) -> dict[str, Any]:
        # Keras has divided a replica's loss by their number; what a step returns is averaged.
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        right = keras.ops.mean(keras.metrics.sparse_categorical_accuracy(y, predicted))
        return {"loss": loss * replicas, "accuracy": right}

    for _epoch in run.epochs():
        if run.begins_epoch:
            run.memory["sums"] = _nothing()  # in memory: an epoch may go on in another process
        for logs in run.train_steps(train):
            _add(run.memory["sums"], logs, run.num_records)
        sums = _nothing()
        for logs in run.validation_steps(test):
            _add(sums, logs, run.num_records)
        run.end_epoch(_means(run.memory["sums"], "") | _means(sums, "val_"))


def _nothing() -> Logs:
    return dict.fromkeys((*_NAMES, "records"), 0.0)


def _add(sums: Logs, logs: Logs, num_records: int) -> None:
    sums["records"] += num_records
    for name in _NAMES:
        sums[name] += logs[name] * num_records


def _means(sums: Logs, prefix: str) -> Logs:
    """By name over all records; nothing of none."""
    records = sums["records"]
    return {prefix + name: sums[name] / records for name in _NAMES} if records else {}
