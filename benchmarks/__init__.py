"""Benchmarks: what an architecture is worth."""
