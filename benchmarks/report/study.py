"""Reading what ``nasplug compare`` wrote, as strictly as a stranger's files deserve."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from nasplug.benchmarks.summary import SCHEMA
from nasplug.errors import DataError, InputError

__all__ = ["Study", "number", "read_study"]

_KEYS = ("benchmark", "strategy")
_ROW = (*_KEYS, "value_mean", "relative_improvement_pct")


@dataclass(frozen=True)
class Study:
    """The three files of an output folder, read and checked.

    Attributes:
        evaluations: how many evaluations ``results.parquet`` holds.
        timings: one row a suggestion: strategy, suggest_ms.
        summary: the statistics; ``rows`` has one entry a benchmark and strategy.
        rows: the same entries by (benchmark, strategy).
        benchmarks: names, in the order of the summary.
        strategies: names, in the order of the summary.
        files: name -> SHA-256 of the three files.
    """

    evaluations: int
    timings: pd.DataFrame
    summary: Mapping[str, Any]
    files: Mapping[str, str] = field(default_factory=dict)
    rows: Mapping[tuple[str, str], Mapping[str, Any]] = field(init=False)
    benchmarks: tuple[str, ...] = field(init=False)
    strategies: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        rows = {(row["benchmark"], row["strategy"]): row for row in self.summary["rows"]}
        object.__setattr__(self, "rows", rows)
        object.__setattr__(self, "benchmarks", tuple(dict.fromkeys(b for b, _ in rows)))
        object.__setattr__(self, "strategies", tuple(dict.fromkeys(s for _, s in rows)))

    @property
    def early(self) -> Mapping[tuple[str, str], Mapping[str, Any]]:
        """The summary rows by (benchmark, strategy) where trainings were stopped early."""
        return {
            key: row
            for key, row in self.rows.items()
            if number(row.get("stopped_evaluations_mean")) and number(row.get("queries_mean"))
        }

    def row(self, benchmark: str, strategy: str) -> Mapping[str, Any]:
        """Return the summary row of a pair, empty where it was not run."""
        return self.rows.get((benchmark, strategy), {})

    def about(self, benchmark: str) -> Mapping[str, Any]:
        """Return the facts of a benchmark (landmarks, notes, provenance), empty where the summary has none."""
        return self.mapping("benchmarks", benchmark)

    def entries(self, key: str) -> list[Mapping[str, Any]]:
        """Return the mappings in a list of the summary; anything else that is there is no such entry."""
        found = self.summary.get(key)
        return [one for one in found if isinstance(one, Mapping)] if isinstance(found, list) else []

    def mapping(self, *keys: str) -> Mapping[str, Any]:
        """Return the mapping under a path of keys, empty where there is none."""
        found: Any = self.summary
        for key in keys:
            found = found.get(key) if isinstance(found, Mapping) else None
        return found if isinstance(found, Mapping) else {}


def number(value: Any) -> float | None:
    """Return a finite number as a float, None for everything else (null, text, NaN, truth values)."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def read_study(folder: Path) -> Study:
    """Read ``summary.json``, ``results.parquet`` and ``timings.parquet``.

    Raises:
        DataError: a file is missing or damaged, lacks a column, or belongs to another run.
        InputError: the summary has another schema version.
    """
    summary = _summary(folder / "summary.json")
    results = _table(folder / "results.parquet", _KEYS)
    timings = _table(folder / "timings.parquet", (*_KEYS, "suggest_ms"))
    summarised = {tuple(row[key] for key in _KEYS) for row in summary["rows"]}
    for name, table in (("results.parquet", results), ("timings.parquet", timings)):
        if set(table[list(_KEYS)].drop_duplicates().itertuples(index=False, name=None)) != summarised:
            raise DataError(
                f"{folder / name} and summary.json are of different studies; run `nasplug compare` on the folder again"
            )
    files = {name: _digest(folder / name) for name in ("results.parquet", "summary.json", "timings.parquet")}
    return Study(len(results), timings, summary, files)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _missing(path: Path) -> DataError:
    return DataError(f"{path} is missing; run `nasplug compare --out {path.parent}` to make it")


def _summary(path: Path) -> dict[str, Any]:
    try:
        summary: Any = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise _missing(path) from error
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path} is not readable JSON ({error}); run `nasplug compare` on the folder again") from error
    found = summary.get("schema") if isinstance(summary, dict) else None
    if found != SCHEMA:
        raise InputError(f"{path} has schema {found!r}, this nasplug reads {SCHEMA}; run `nasplug compare` again")
    rows = summary.get("rows")
    if not isinstance(rows, list) or not rows:
        raise DataError(f"{path} has no rows: no run finished; run `nasplug compare` on the folder again")
    for row in rows:
        if not isinstance(row, dict) or set(_ROW) - set(row) or not all(isinstance(row[key], str) for key in _KEYS):
            raise DataError(f"{path}: a row needs {', '.join(_ROW)}, got {str(row)[:120]!r}")
    return summary


def _table(path: Path, columns: tuple[str, ...]) -> pd.DataFrame:
    import pyarrow.parquet as pq

    try:
        lacking = set(columns) - set(pq.read_schema(path).names)
        frame: pd.DataFrame = pq.read_table(path, columns=[c for c in columns if c not in lacking]).to_pandas()
    except FileNotFoundError as error:
        raise _missing(path) from error
    except Exception as error:  # pyarrow raises a dozen kinds on damaged files, none of them ours
        raise DataError(f"{path} is not a readable Parquet file ({error}); run `nasplug compare` again") from error
    if lacking:
        raise DataError(f"{path} lacks the columns {', '.join(sorted(lacking))}; run `nasplug compare` again")
    return frame
