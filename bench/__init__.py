"""Benchmarks: each compares two ways of doing the same work, in pairs, on one machine."""
