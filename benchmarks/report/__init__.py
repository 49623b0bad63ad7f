"""The report a person reads: one HTML file from the files of a comparison."""

from nasplug.benchmarks.report.page import write_report

__all__ = ["write_report"]
