"""What computes: versions, as metrics and summaries report them, and the machine."""

import os
import platform


def versions() -> dict[str, str]:
    """Version by name: the trainer, TensorFlow, Keras and its backend, and Python."""
    import keras
    import tensorflow as tf

    import trainer
    from trainer.backends import this_backend

    return {
        "version": trainer.__version__,
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        "backend": f"{keras.backend.backend()} {this_backend().version()}",
        "python": platform.python_version(),
    }


def machine() -> dict[str, str | int]:
    """What this process runs on."""
    return {"platform": platform.platform(), "processors": os.cpu_count() or 1}
