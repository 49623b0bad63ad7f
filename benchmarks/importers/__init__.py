"""Converters: from the files people have to a table in the data folder, one file a format."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from nasplug.benchmarks import ofa_surrogate
from nasplug.benchmarks.base import Benchmark
from nasplug.benchmarks.catalog import table_path
from nasplug.benchmarks.importers import common, delimited, help_npz, macro, ofa, topology
from nasplug.benchmarks.importers.common import Imported, ImportOptions, Unit
from nasplug.benchmarks.table import read_table, write_table
from nasplug.errors import DataError, InputError, UnknownNameError

__all__ = ["FORMATS", "ImportOptions", "Imported", "Stored", "Unit", "add", "import_files"]

_ONE_FILE: dict[str, Callable[[Path, ImportOptions], list[Imported]]] = {
    "nasbench201-pth": topology.import_pth,
    "nats-bench": topology.import_nats_folder,
    "nasbench-macro": macro.import_macro,
    "help-npz": help_npz.import_help,
}
_PARTS: dict[str, tuple[str, Callable[[Path], Mapping[str, NDArray[Any]]]]] = {
    "ofa-accuracy-predictor": ("accuracy_predictor", ofa.read_predictor),
    "ofa-note10-tables": ("note10_tables", ofa.read_note10_tables),
}
"""Formats that are no table but a part of ``ofa-imagenet-surrogate``, which computes its labels."""

FORMATS = ("auto", "csv", "parquet", *_ONE_FILE, *_PARTS)
"""Formats that :func:`import_files` knows."""


@dataclass(frozen=True)
class Stored:
    """What :func:`add` wrote: the benchmark, what a person must be told, and the columns or metrics that came.

    ``benchmark`` is None for a part of a benchmark that lacks another.
    """

    benchmark: Benchmark | None
    path: Path
    messages: tuple[str, ...]
    added: tuple[str, ...]


def detect(path: Path) -> str:
    """Return the format that a file's or folder's name shows; raises InputError where it shows none."""
    if path.is_dir():
        return (
            "ofa-note10-tables" if any(ofa.TABLE_NAME.fullmatch(one.name) for one in path.iterdir()) else "nats-bench"
        )
    if ofa.PREDICTOR_NAME.fullmatch(path.name):
        return "ofa-accuracy-predictor"
    for pattern, kind in (
        (r"\.(csv|tsv)(\.gz)?$", "csv"),
        (r"\.(parquet|pq)(\.gz)?$", "parquet"),
        (r"\.pth$", "nasbench201-pth"),
        (r"\.json(\.gz)?$", "nasbench-macro"),
        (r"\.npz$", "help-npz"),
    ):
        if re.search(pattern, path.name):
            return kind
    raise InputError(f"what is {path.name}? give --format, one of {', '.join(FORMATS[1:])}")


def import_files(paths: Sequence[Path], options: ImportOptions, kind: str = "auto") -> list[Imported]:
    """Return the tables that files hold; several CSV or Parquet files are the rows of one table.

    Raises:
        DataError: a missing, damaged, hostile or inconsistent file.
        InputError: a format that cannot be told, or options that do not fit it.
    """
    if not paths:
        raise InputError("give at least one file")
    if kind not in FORMATS:
        raise UnknownNameError("format", kind, FORMATS)
    for path in paths:
        if not path.exists():
            raise DataError(f"no file or folder {path}")
    kinds = {detect(path) if kind == "auto" else kind for path in paths}
    if kinds <= {"csv", "parquet"}:
        return delimited.import_delimited(paths, options)
    if kinds & set(_PARTS):
        raise InputError(f"format {', '.join(sorted(kinds))} makes no table; add it to the data folder")
    if len(paths) > 1:
        raise InputError(f"files of format {', '.join(sorted(kinds))} are added one at a time, got {len(paths)}")
    return _ONE_FILE[kinds.pop()](paths[0], options)


def add(
    paths: Sequence[Path],
    options: ImportOptions,
    *,
    name: str | None = None,
    kind: str = "auto",
    overwrite: bool = False,
) -> list[Stored]:
    """Import files into the data folder; into a table that exists, as further columns.

    Args:
        paths: the files, or one folder.
        options: what they hold.
        name: the table's name; where the files make several tables, ``-DATASET`` is appended.
        kind: one of :data:`FORMATS`.
        overwrite: replace metrics that the table holds already.

    Raises: InputError and DataError as :func:`import_files`; nothing is written then, or if any table would be refused.
    """
    kinds = {detect(path) if kind == "auto" and path.exists() else kind for path in paths}
    if kinds & set(_PARTS):
        return _add_parts(paths, kinds, name)
    imported = import_files(paths, options, kind)
    planned = []
    for one in imported:
        target = name if name and len(imported) == 1 else f"{name}-{one.dataset}" if name else one.name
        path = table_path(target)
        table, added = one.table, tuple(one.table.columns)
        if path.exists():
            table = common.merge(read_table(path).table(), table, options, overwrite=overwrite)
        planned.append((path, table.to_arrow(), one.messages, added))
    stored = []
    for path, arrow, messages, added in planned:
        write_table(arrow, path)
        stored.append(Stored(read_table(path), path, messages, added))
    return stored


def _add_parts(paths: Sequence[Path], kinds: set[str], name: str | None) -> list[Stored]:
    """Store a part of ``ofa-imagenet-surrogate``; one there is replaced."""
    if len(paths) > 1:
        raise InputError(f"files of format {', '.join(sorted(kinds))} are added one at a time, got {len(paths)}")
    if name not in (None, ofa_surrogate.NAME):
        raise InputError(f"this file is a part of {ofa_surrogate.NAME}; leave out --name")
    part, read = _PARTS[kinds.pop()]
    path = ofa_surrogate.write_part(part, read(paths[0]))
    (metric,) = [metric for metric, needed in ofa_surrogate.PARTS.items() if needed == part]
    try:
        benchmark, messages = ofa_surrogate.open_surrogate(), (f"{ofa_surrogate.NAME} has {metric} now",)
    except DataError as error:
        benchmark, messages = None, (f"{metric} is stored; {error}",)
    return [Stored(benchmark, path, messages, (metric,))]
