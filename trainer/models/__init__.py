"""Models with their own training step, and their arithmetic on several replicas."""
