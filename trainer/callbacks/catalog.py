"""Callbacks that a configuration names."""

from typing import Any

from keras.callbacks import Callback

from trainer.config.models import CALLBACKS, CallbackConfig
from trainer.errors import ConfigError
from trainer.plugins import load_object


def factory_of(config: CallbackConfig) -> Any:
    """The class, or a function that makes one. ConfigError when it cannot be imported."""
    return load_object(CALLBACKS.get(config.name, config.name), key="callbacks")


def make_callback(config: CallbackConfig) -> Any:
    """The callback, built with its arguments; ConfigError when that cannot be done."""
    factory = factory_of(config)
    try:
        callback = factory(**config.args)
    except Exception as error:
        raise ConfigError(f"callback {config.name}: {error!r}") from error
    if not isinstance(callback, Callback):
        raise ConfigError(f"callback {config.name} is a {type(callback).__name__}, not a Callback")
    return callback
