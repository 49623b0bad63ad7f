"""From a name to a benchmark: the registered ones, the user's own tables in the data folder, and table files."""

from __future__ import annotations

import re
from pathlib import Path

from nasplug import registry
from nasplug.benchmarks.base import Benchmark
from nasplug.benchmarks.table import SUFFIX, read_table
from nasplug.errors import InputError, UnknownNameError
from nasplug.folder import data_folder

__all__ = ["benchmark_names", "open_benchmark", "table_path", "user_tables"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def table_path(name: str) -> Path:
    """Return the file of a user's table; raises InputError for a name that cannot be one, or is taken."""
    if not _NAME.fullmatch(name):
        raise InputError(f"a table's name has letters, digits, '.', '_' and '-' (at most 100), got {name!r}")
    if name in registry.names("benchmark"):
        raise InputError(f"{name!r} is a built-in benchmark; choose another name")
    return data_folder() / "tables" / f"{name}{SUFFIX}"


def user_tables() -> dict[str, Path]:
    """Return name -> file of the tables in the data folder, sorted; opens none."""
    found = {path.stem: path for path in (data_folder() / "tables").glob(f"*{SUFFIX}") if _NAME.fullmatch(path.stem)}
    return dict(sorted(found.items()))


def benchmark_names() -> list[str]:
    """Return the names that :func:`open_benchmark` knows, built-in ones first; converts and opens nothing."""
    built_in = registry.names("benchmark")
    return built_in + [name for name in user_tables() if name not in built_in]


def open_benchmark(name: str) -> Benchmark:
    """Open a benchmark by its name, by a spec such as ``name:option=value``, or a table by its file's path.

    Raises:
        UnknownNameError: no such name; near names are offered.
        DataError: the table's file is damaged.
        MissingDependencyError: a built-in table whose package is not installed.
    """
    if name.endswith(SUFFIX):
        return read_table(Path(name))
    tables = user_tables()
    spec = registry.Spec.parse(name)
    if spec.name in registry.names("benchmark"):
        benchmark: Benchmark = registry.configure("benchmark", spec)
        return benchmark
    if name in tables:
        return read_table(tables[name])
    raise UnknownNameError("benchmark", name, benchmark_names())
