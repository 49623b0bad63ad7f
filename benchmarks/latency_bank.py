"""From a table with latencies to a bank of devices that cost models learn from."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from nasplug.benchmarks.table import TableBenchmark
from nasplug.cost_models.base import LatencyBank
from nasplug.cost_models.units import require_milliseconds
from nasplug.errors import DataError, UnknownNameError

__all__ = ["latency_bank", "latency_devices", "latency_metric"]

_METRIC = re.compile(r"latency_(?:(?P<device>.+)_)?ms")
UNNAMED = "latency"
"""Device of a table's metric ``latency_ms``."""


def latency_metric(device: str) -> str:
    """Return the metric that holds a device's latencies; ``latency`` and ``latency_ms`` mean the unnamed device."""
    return "latency_ms" if device in (UNNAMED, "latency_ms") else f"latency_{device}_ms"


def latency_devices(table: TableBenchmark) -> dict[str, str]:
    """Return device -> column of a table's latencies, in the table's order."""
    found = {column: _METRIC.fullmatch(column) for column in table.columns()}
    return {match["device"] or UNNAMED: column for column, match in found.items() if match}


def latency_bank(table: TableBenchmark, devices: Sequence[str] | None = None) -> LatencyBank:
    """Return a table's latencies as a bank, rows in the table's order; the mean where there are several a row.

    Args:
        table: with metrics named ``latency_DEVICE_ms`` or ``latency_ms``.
        devices: which; None for all.

    Raises: DataError for a table without latencies, or with some that cannot be milliseconds; UnknownNameError for a
        device it does not hold.
    """
    held = latency_devices(table)
    if not held:
        raise DataError(f"{table.name} holds no metric latency_DEVICE_ms; it holds {', '.join(table.columns())}")
    chosen = list(held) if devices is None else list(devices)
    columns = []
    for device in chosen:
        if device not in held:
            raise UnknownNameError(f"device of {table.name}", device, held)
        columns.append(np.nanmean(table.column(held[device]), axis=1))
        require_milliseconds(columns[-1], f"{table.name}, device {device!r}")
    return LatencyBank(table.space, table.architectures(), tuple(chosen), np.stack(columns, axis=1))
