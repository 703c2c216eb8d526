"""Keras callbacks: ours, and those that a configuration names."""
