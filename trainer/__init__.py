"""Keras 3 / TensorFlow training jobs on Kubernetes that lose no work."""

__version__ = "0.1.0"
