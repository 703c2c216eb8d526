"""Fault tests: real processes, each fault scheduled and seen to fire."""
