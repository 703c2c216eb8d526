"""Callbacks that draw pictures of a run into its folder."""
