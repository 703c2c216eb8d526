"""A recipe for the trainer."""
