"""The parent process of a worker, without TensorFlow."""
