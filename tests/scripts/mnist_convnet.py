"""Handwritten digits: a small convolutional network."""

import embedded
import keras
import numpy as np
from keras import layers

options = embedded.options(records=5000, batch_size=128, epochs=15, filters=32)
batch_size, epochs = options.batch_size, options.epochs
keras.utils.set_random_seed(1)

num_classes = 10
(x_train, y_train), (x_test, y_test) = embedded.pictures("mnist", options.records)
x_train = np.expand_dims(x_train.astype("float32") / 255, -1)
x_test = np.expand_dims(x_test.astype("float32") / 255, -1)
y_train = keras.utils.to_categorical(y_train, num_classes)
y_test = keras.utils.to_categorical(y_test, num_classes)

model = keras.Sequential(
    [
        keras.Input(shape=(28, 28, 1)),
        layers.Conv2D(options.filters, kernel_size=(3, 3), activation="relu"),
        layers.MaxPooling2D(pool_size=(2, 2)),
        layers.Conv2D(2 * options.filters, kernel_size=(3, 3), activation="relu"),
        layers.MaxPooling2D(pool_size=(2, 2)),
        layers.Flatten(),
        layers.Dropout(0.5),
        layers.Dense(num_classes, activation="softmax"),
    ]
)
model.summary()
model.compile(loss="categorical_crossentropy", optimizer="adam", metrics=["accuracy"])

history = model.fit(x_train, y_train, batch_size, epochs, validation_split=0.1)

score = model.evaluate(x_test, y_test, verbose=0)
print("test loss", score[0], "test accuracy", score[1])
