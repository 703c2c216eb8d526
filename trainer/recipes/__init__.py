"""Recipes: what is trained, as data and functions."""
