"""Benchmarks: what an architecture is worth, and how strategies are compared on it."""

from nasplug.benchmarks.base import Benchmark, Signal
from nasplug.benchmarks.catalog import benchmark_names, open_benchmark
from nasplug.benchmarks.table import Table, TableBenchmark, TableInfo, read_table, write_table

__all__ = [
    "Benchmark",
    "Signal",
    "Table",
    "TableBenchmark",
    "TableInfo",
    "benchmark_names",
    "open_benchmark",
    "read_table",
    "write_table",
]
