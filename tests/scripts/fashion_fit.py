"""Fashion-MNIST: two convolutions, their mean over the picture, and model.fit."""

import embedded
import keras
from keras import layers

options = embedded.options(records=5000, batch_size=64, epochs=10, filters=32, shuffle=True)
keras.utils.set_random_seed(1)

(x_train, y_train), (x_test, y_test) = embedded.pictures("fashion_mnist", options.records)
x_train = x_train[..., None].astype("float32") / 255
x_test = x_test[..., None].astype("float32") / 255

image = keras.Input((28, 28, 1))
x = layers.Conv2D(options.filters, 3, activation="relu")(image)
x = layers.MaxPooling2D(4)(x)
x = layers.Conv2D(2 * options.filters, 3, activation="relu")(x)
x = layers.GlobalAveragePooling2D()(x)
model = keras.Model(image, layers.Dense(10, activation="softmax")(x))
model.compile(
    optimizer=keras.optimizers.Adam(0.002),
    loss="sparse_categorical_crossentropy",
    metrics=["accuracy"],
)

history = model.fit(
    x_train,
    y_train,
    batch_size=options.batch_size,
    epochs=options.epochs,
    shuffle=options.shuffle,
    validation_data=(x_test, y_test),
    callbacks=[keras.callbacks.ReduceLROnPlateau("val_loss", factor=0.5, patience=2)],
)
print("best", max(history.history["val_accuracy"]))
