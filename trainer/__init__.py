"""Keras 3 / TensorFlow training jobs on Kubernetes that lose no work."""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

# For users' scripts. Loaded when they are asked for, since they bring TensorFlow.
_OF_SCRIPTS = {
    "close": "trainer.script.processes",
    "evaluate": "trainer.script.measures",
    "fit": "trainer.script.fit",
    "is_chief": "trainer.script.processes",
    "predict": "trainer.script.measures",
    "setup": "trainer.script.processes",
}


def __getattr__(name: str) -> Any:
    if name not in _OF_SCRIPTS:
        raise AttributeError(f"module 'trainer' has no attribute {name!r}")
    return getattr(import_module(_OF_SCRIPTS[name]), name)
