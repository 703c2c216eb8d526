"""The agents of a run come together: one leads, all are members. No TensorFlow."""
