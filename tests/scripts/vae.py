"""A variational autoencoder of handwritten digits, with a training step of its own."""

import embedded
import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops

options = embedded.options(
    records=5000, batch_size=128, epochs=30, filters=32, latent_dim=2, shuffle=True
)
keras.utils.set_random_seed(1)


class Sampling(layers.Layer):
    """A point of the latent space, drawn around its mean."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.seed_generator = keras.random.SeedGenerator(1337)

    def call(self, inputs):
        z_mean, z_log_var = inputs
        epsilon = keras.random.normal(ops.shape(z_mean), seed=self.seed_generator)
        return z_mean + ops.exp(0.5 * z_log_var) * epsilon


def make_encoder(filters, latent_dim):
    image = keras.Input((28, 28, 1))
    x = layers.Conv2D(filters, 3, activation="relu", strides=2, padding="same")(image)
    x = layers.Conv2D(2 * filters, 3, activation="relu", strides=2, padding="same")(x)
    x = layers.Dense(16, activation="relu")(layers.Flatten()(x))
    z_mean = layers.Dense(latent_dim, name="z_mean")(x)
    z_log_var = layers.Dense(latent_dim, name="z_log_var")(x)
    z = Sampling()([z_mean, z_log_var])
    return keras.Model(image, [z_mean, z_log_var, z], name="encoder")


def make_decoder(filters, latent_dim):
    latent = keras.Input((latent_dim,))
    x = layers.Dense(7 * 7 * 2 * filters, activation="relu")(latent)
    x = layers.Reshape((7, 7, 2 * filters))(x)
    x = layers.Conv2DTranspose(2 * filters, 3, activation="relu", strides=2, padding="same")(x)
    x = layers.Conv2DTranspose(filters, 3, activation="relu", strides=2, padding="same")(x)
    image = layers.Conv2DTranspose(1, 3, activation="sigmoid", padding="same")(x)
    return keras.Model(latent, image, name="decoder")


class VAE(keras.Model):
    def __init__(self, encoder, decoder, **kwargs):
        super().__init__(**kwargs)
        self.encoder = encoder
        self.decoder = decoder
        self.total_loss_tracker = keras.metrics.Mean(name="total_loss")
        self.reconstruction_loss_tracker = keras.metrics.Mean(name="reconstruction_loss")
        self.kl_loss_tracker = keras.metrics.Mean(name="kl_loss")

    @property
    def metrics(self):
        return [
            self.total_loss_tracker,
            self.reconstruction_loss_tracker,
            self.kl_loss_tracker,
        ]

    def train_step(self, data):
        with tf.GradientTape() as tape:
            z_mean, z_log_var, z = self.encoder(data)
            reconstruction = self.decoder(z)
            differences = keras.losses.binary_crossentropy(data, reconstruction)
            reconstruction_loss = ops.mean(ops.sum(differences, axis=(1, 2)))
            kl_loss = -0.5 * (1 + z_log_var - ops.square(z_mean) - ops.exp(z_log_var))
            kl_loss = ops.mean(ops.sum(kl_loss, axis=1))
            total_loss = reconstruction_loss + kl_loss
        grads = tape.gradient(total_loss, self.trainable_weights)
        self.optimizer.apply_gradients(zip(grads, self.trainable_weights))
        self.total_loss_tracker.update_state(total_loss)
        self.reconstruction_loss_tracker.update_state(reconstruction_loss)
        self.kl_loss_tracker.update_state(kl_loss)
        return {metric.name: metric.result() for metric in self.metrics}


(x_train, _), (x_test, _) = embedded.pictures("mnist", options.records)
digits = np.expand_dims(np.concatenate([x_train, x_test]), -1).astype("float32") / 255

model = VAE(
    make_encoder(options.filters, options.latent_dim),
    make_decoder(options.filters, options.latent_dim),
)
model.compile(optimizer=keras.optimizers.Adam())
history = model.fit(
    digits,
    epochs=options.epochs,
    batch_size=options.batch_size,
    shuffle=options.shuffle,
)
print("drawn", model.decoder.predict(np.zeros((1, options.latent_dim)), verbose=0).shape)
