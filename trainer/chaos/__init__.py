"""A training that is disturbed on purpose, and what came of it. No TensorFlow."""
