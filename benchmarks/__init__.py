"""Benchmarks: what an architecture is worth, and how strategies are compared on it."""

from nasplug.benchmarks.base import Benchmark, Signal

__all__ = ["Benchmark", "Signal"]
