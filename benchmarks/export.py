"""A table as CSV or Parquet, for other tools; an importer reads it back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from nasplug.benchmarks.table import TableBenchmark
from nasplug.errors import InputError
from nasplug.files import write_whole

__all__ = ["export_table"]


def export_table(table: TableBenchmark, path: Path) -> None:
    """Write ``architecture`` and one column a metric, ``METRIC@EPOCHS#SEED`` where there are several training seeds.

    Raises: InputError for another ending than ``.csv``, ``.csv.gz`` or ``.parquet``; DataError if it cannot be
    written (a file that was there stays).
    """
    kind = next((end for end in (".csv", ".csv.gz", ".parquet") if path.name.endswith(end)), None)
    if kind is None:
        raise InputError(f"expected a file named .csv, .csv.gz, .parquet or, for NNI, .db, got {path.name!r}")
    columns: dict[str, object] = {"architecture": table.space.to_string(table.architectures())}
    for name, seeds in table.columns().items():
        values = table.column(name)
        for seed in range(seeds):
            column = values[:, seed]
            whole = seeds == 1 and not np.mod(column, 1).any() and np.abs(column).max() < 2**53
            columns[name if seeds == 1 else f"{name}#{seed}"] = column.astype(np.int64) if whole else column
    frame = pd.DataFrame(columns)

    def save(temporary: Path) -> None:
        if kind == ".parquet":
            frame.to_parquet(temporary, index=False)
        else:
            # A time stamp inside .gz would give the same table other bytes each time.
            frame.to_csv(
                temporary, index=False, compression={"method": "gzip", "mtime": 0} if kind == ".csv.gz" else None
            )

    write_whole(path, save)
