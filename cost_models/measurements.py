"""Files of measured latencies: one row an architecture, appended as it is measured.

A file that a killed run left has an unfinished last line; it is passed over by readers, and cut off by the next run.

Shapes: n architectures.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nasplug import registry
from nasplug.cost_models.units import require_milliseconds
from nasplug.errors import DataError
from nasplug.spaces import Genotypes, Space

__all__ = [
    "BLOCK_S",
    "COLUMNS",
    "Content",
    "Measurement",
    "append",
    "latencies",
    "mend",
    "read_content",
    "read_measurements",
]

BLOCK_S = 0.02
"""Seconds that each block of a measurement takes at least."""


@dataclass(frozen=True)
class Measurement:
    """One row of a measurement file; what has a default may be missing from a file that is written by hand.

    Attributes:
        space: of the architecture.
        architecture: its string.
        latency_ms: median of the blocks.
        spread: of the blocks, relative; NaN where it is unknown.
        noisy: the spread stayed too wide in every attempt; the one with the least is reported.
        attempts: how often it was measured.
        passes: forward passes in all; 0 where it is unknown.
        protocol: what makes rows comparable.
        machine: processor, or graphics card.
        software: versions.
        load: other work as the system saw it, in busy cores; empty where it does not say.
        measured_at: UTC.
    """

    space: str
    architecture: str
    latency_ms: float
    spread: float = np.nan
    noisy: bool = False
    attempts: int = 1
    passes: int = 0
    protocol: str = ""
    machine: str = ""
    software: str = ""
    load: str = ""
    measured_at: str = ""


COLUMNS = tuple(one.name for one in fields(Measurement))
"""Of a file that was measured here."""
NEEDED = COLUMNS[:3]
"""Of any measurement file."""


@dataclass(frozen=True)
class Content:
    """What a file holds: ``kept`` of its ``size`` bytes, the rest being an unfinished line; nothing by default."""

    columns: tuple[str, ...] = COLUMNS
    rows: Sequence[Measurement] = ()
    kept: int = 0
    size: int = 0


def mend(path: Path, content: Content) -> None:
    """Cut an unfinished last line off the file, or end it where it is a row; raises DataError as :func:`append`."""
    if not content.size:
        return
    try:
        with path.open("rb+") as file:
            if content.kept < content.size:
                file.truncate(content.kept)
            file.seek(max(content.kept - 1, 0))
            missing = {b"": b"", b"\n": b"", b"\r": b"\n"}.get(file.read(1), b"\r\n")
            file.write(missing)
    except OSError as error:
        raise _unwritable(path, error) from error


def append(path: Path, row: Measurement) -> None:
    """Write a row behind the others, and see that it is on the disk; raises DataError where it cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = not path.exists() or not path.stat().st_size
        with path.open("a", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS)
            if fresh:
                writer.writeheader()
            writer.writerow(asdict(row))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise _unwritable(path, error) from error


def _unwritable(path: Path, error: OSError) -> DataError:
    return DataError(f"cannot write {path} ({error.strerror}); free space, or choose another file")


def read_measurements(path: Path) -> list[Measurement]:
    """Return the rows of a measurement file, which stays as it is.

    The columns ``space``, ``architecture`` and ``latency_ms`` are needed; the others, and their values, may be missing.
    A last line without its end counts where it is a whole row, and is passed over where it is not: killed runs leave
    such.

    Raises: DataError where the file is missing or lacks a column, or a line is no measurement.
    """
    return list(read_content(path).rows)


def read_content(path: Path) -> Content:
    """Return the rows of a file and how far they go; raises DataError as :func:`read_measurements`."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read the measurements {path} ({error.strerror})") from error
    if f"{','.join(COLUMNS)}\r\n".encode().startswith(data):  # empty, or a heading and no more
        return Content(size=len(data))
    end = max(data.rfind(b"\n"), data.rfind(b"\r")) + 1 or len(data)
    reader = None
    try:
        reader = csv.DictReader(io.StringIO(data[:end].decode("utf-8-sig"), newline=""))
        columns = tuple(reader.fieldnames or ())
        if missing := [name for name in NEEDED if name not in columns]:
            has = ", ".join(columns)
            raise ValueError(f"without the columns {', '.join(missing)}; expected {', '.join(NEEDED)}, it has {has}")
        rows = [_row(row) for row in reader]
    except (ValueError, csv.Error) as error:
        line = reader.line_num if reader else 1
        raise DataError(f"{path} is not a file of measurements, line {line}: {error}") from error
    try:
        rows += [_row(row) for row in csv.DictReader([data[end:].decode("utf-8")], columns)]
    except (ValueError, csv.Error):
        return Content(columns, rows, end, len(data))
    return Content(columns, rows, len(data), len(data))


def _row(row: Mapping[Any, Any]) -> Measurement:
    """Return a line as :class:`csv.DictReader` reads it; raises ValueError where it is no measurement."""
    # The reader says by None that a line has more or fewer values than the heading.
    if None in row or None in row.values():
        raise ValueError("expected as many values as columns; architectures with commas stand in quotes")
    kinds: dict[str, Callable[[str], Any]] = {
        "latency_ms": float,
        "spread": float,
        "noisy": "True".__eq__,
        "attempts": int,
        "passes": int,
    }
    given = {name: kinds.get(name, str)(row[name]) for name in COLUMNS if row.get(name)}
    if missing := [name for name in NEEDED if name not in given]:
        raise ValueError(f"no {', '.join(missing)}")
    if not 0 < given["latency_ms"] < np.inf:
        raise ValueError(f"latency {given['latency_ms']}; expected finite milliseconds above zero")
    return Measurement(**given)


def latencies(rows: Sequence[Measurement]) -> tuple[Space, Genotypes, NDArray[np.float64]]:
    """Return the space, genotypes ``(n, s)`` and milliseconds ``(n,)`` of measurements.

    The unit is believed where passes and milliseconds multiply to a measurement's duration, else checked by range.

    Raises: DataError for no rows, more than one space, or another unit; UnknownNameError for a space that is not
        registered; InputError for a string that is no architecture of it.
    """
    spaces = {row.space for row in rows}
    if len(spaces) != 1:
        raise DataError(f"expected measurements of one space, got {len(rows)} of {sorted(spaces) or 'none'}")
    space: Space = registry.load("space", spaces.pop())()
    ms = np.array([row.latency_ms for row in rows])
    if np.median(ms * np.array([row.passes for row in rows])) < 1e3 * BLOCK_S:
        require_milliseconds(ms, "the measurements")
    return space, space.from_string([row.architecture for row in rows]), ms
