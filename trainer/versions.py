"""Versions of what computes, as metrics and summaries report them."""

import platform


def versions() -> dict[str, str]:
    """Version by name: the trainer, TensorFlow, Keras and Python."""
    import keras
    import tensorflow as tf

    import trainer

    return {
        "version": trainer.__version__,
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        "python": platform.python_version(),
    }
