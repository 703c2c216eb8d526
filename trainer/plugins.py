"""Objects that a configuration names by import path, `package.module:name`."""

import importlib
from contextlib import nullcontext
from typing import Any

from trainer.config.messages import shown_value
from trainer.errors import ConfigError
from trainer.tensorflow_start import importing_tensorflow


def is_path(name: str) -> bool:
    """Whether `name` is an import path rather than a name of ours."""
    return ":" in name


def load_object(path: str, *, key: str) -> Any:
    """The object at `package.module:name`; `key` names the setting in errors.

    Raises:
        ConfigError: the module or the name is not there, or importing it failed.
    """
    module_name, _, attribute = path.partition(":")
    if not module_name or not attribute.isidentifier():
        raise ConfigError(f"{key}: {shown_value(path)} must look like package.module:name")
    # A recipe may well begin with `import keras`; ours never do.
    quiet = nullcontext() if module_name.startswith("trainer.") else importing_tensorflow()
    try:
        with quiet:
            module = importlib.import_module(module_name)
    except ImportError as error:
        raise ConfigError(
            f"{key}: cannot import {module_name!r} ({error}): is its folder on PYTHONPATH?"
        ) from error
    except Exception as error:
        raise ConfigError(f"{key}: importing {module_name!r} failed: {error!r}") from error
    if not hasattr(module, attribute):
        raise ConfigError(f"{key}: module {module_name!r} has no {attribute!r}")
    return getattr(module, attribute)
