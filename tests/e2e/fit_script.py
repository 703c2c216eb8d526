"""A user's script, as the tests bring it to the cluster; it knows of the trainer in one line."""

import argparse

import keras
import numpy as np

import trainer

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--epochs", type=int, default=60)
epochs = parser.parse_args().epochs

TRAIN = 960
images = np.random.default_rng(0).random([TRAIN + 96, 28, 28, 1], dtype=np.float32)
labels = (images[:, :14].sum((1, 2, 3)) > images[:, 14:].sum((1, 2, 3))).astype(np.int32)

model = keras.Sequential(
    [
        keras.Input([28, 28, 1]),
        keras.layers.Conv2D(4, 3, strides=2, activation="relu"),
        keras.layers.Flatten(),
        keras.layers.Dropout(0.2),
        keras.layers.Dense(2),
    ]
)
loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
model.compile(optimizer="adam", loss=loss, metrics=["accuracy"])
held_out = images[TRAIN:], labels[TRAIN:]
trainer.fit(
    model, images[:TRAIN], labels[:TRAIN], batch_size=96, epochs=epochs, validation_data=held_out
)
