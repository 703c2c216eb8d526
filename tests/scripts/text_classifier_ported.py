"""Which tickets are the library's: text, made numbers by a layer that has seen it."""

import embedded
import keras
import tensorflow as tf
from keras import layers

import trainer

options = embedded.options(
    records=6000, batch_size=32, epochs=3, words=20000, length=100, width=64, dropout=0.5
)
keras.utils.set_random_seed(1)


def read(split, count):
    texts, labels = embedded.texts(split, count)
    dataset = tf.data.Dataset.from_tensor_slices((texts, labels))
    return dataset.shuffle(1000, seed=1337).batch(options.batch_size)


raw_train_ds = read("train", options.records)
raw_val_ds = read("test", options.records // 4)


def standardize(text):
    plain = tf.strings.regex_replace(tf.strings.lower(text), r"gh-\d+|bpo-\d+", " ")
    return tf.strings.regex_replace(plain, r"[^a-z0-9_ ]", "")


vectorize_layer = layers.TextVectorization(
    standardize=standardize,
    max_tokens=options.words,
    output_mode="int",
    output_sequence_length=options.length,
)
vectorize_layer.adapt(raw_train_ds.map(lambda text, label: text))


def vectorize(text, label):
    return vectorize_layer(text), label


train_ds = raw_train_ds.map(vectorize).cache().prefetch(buffer_size=10)
val_ds = raw_val_ds.map(vectorize).cache().prefetch(buffer_size=10)

inputs = keras.Input(shape=(None,), dtype="int64")
x = layers.Embedding(options.words, options.width)(inputs)
x = layers.Dropout(options.dropout)(x)
x = layers.Conv1D(options.width, 7, padding="valid", activation="relu", strides=3)(x)
x = layers.Conv1D(options.width, 7, padding="valid", activation="relu", strides=3)(x)
x = layers.GlobalMaxPooling1D()(x)
x = layers.Dense(options.width, activation="relu")(x)
x = layers.Dropout(options.dropout)(x)
model = keras.Model(inputs, layers.Dense(1, activation="sigmoid")(x))
model.compile(loss="binary_crossentropy", optimizer="adam", metrics=["accuracy"])

history = trainer.fit(model, train_ds, validation_data=val_ds, epochs=options.epochs)

text = keras.Input(shape=(1,), dtype="string")
end_to_end = keras.Model(text, model(vectorize_layer(text)))
end_to_end.compile(loss="binary_crossentropy", optimizer="adam", metrics=["accuracy"])
print("raw text", trainer.evaluate(end_to_end, raw_val_ds, verbose=0))
