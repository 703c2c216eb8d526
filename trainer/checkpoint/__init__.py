"""Checkpoints: what state is, when to save it, and how it is committed and verified."""
