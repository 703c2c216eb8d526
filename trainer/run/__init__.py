"""A run's folder: what lies in it, how it is read, and the page that shows it."""
