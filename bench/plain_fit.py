"""The reference: `keras.Model.fit` on an in-memory tf.data pipeline, as its users write it.

A child process of bench.loop:
python -m bench.plain_fit GO DONE JIT FILTERS POOL BATCH RECORDS EPOCHS
"""

import sys
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from bench.convnet import ConvnetParams, convnet, recipe
from bench.turns import TurnTaker
from trainer.config import DataConfig
from trainer.data.dataset import open_dataset
from trainer.data.pipeline import Place


def arrays(num_records: int) -> Any:
    """Images float32 [n, 28, 28, 1] and labels int64 [n]: the examples that our loop gets."""
    config = DataConfig(url="builtin:fashion_mnist", batch_size=1000)
    spec = recipe.data(ConvnetParams())
    dataset = open_dataset(config, spec, seed=0, threads=2)
    pipeline = dataset.evaluation(f"train[:{num_records}]", Place())
    batches = [example for example, _scale in pipeline.dataset(num_passes=1)]
    x, y = (np.concatenate([batch[part].numpy() for batch in batches]) for part in (0, 1))
    return x, y


def main() -> None:
    """Train until nobody asks for another epoch."""
    go, done = int(sys.argv[1]), int(sys.argv[2])
    jit: Any = {"auto": "auto", "off": False}[sys.argv[3]]
    filters, pool, batch, records, epochs = map(int, sys.argv[4:])
    x, y = arrays(records)
    dataset = tf.data.Dataset.from_tensor_slices((x, y))
    dataset = dataset.shuffle(records).batch(batch).repeat().prefetch(tf.data.AUTOTUNE)
    model = convnet(keras.Model, ConvnetParams(filters=filters, pool=pool))
    model.compile(optimizer=model.optimizer, loss=model.loss, metrics=["accuracy"], jit_compile=jit)
    # Repeated, so that one iterator serves all epochs: fit would have to begin a new one each.
    model.fit(
        dataset, epochs=1_000_000, steps_per_epoch=records // batch, verbose=0,
        callbacks=[TurnTaker(go, done, epochs)],
    )  # fmt: skip


if __name__ == "__main__":
    main()
