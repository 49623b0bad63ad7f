"""Tables over NAS-Bench-201 as the SQLite file that ``nni.nas.benchmark`` reads, so that NNI needs no download.

Layout: NNI 3.0's three tables (``nni/nas/benchmark/nasbench201/schema.py``), with its names of columns, data sets,
edges and operations, accuracies in percent. Differs: what our table does not hold is NULL where NNI's own file always
has a number; ``seed`` counts the training seeds from 0; there are no intermediate results.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nasplug.benchmarks.table import TableBenchmark, split_column
from nasplug.errors import DataError, InputError, MissingDependencyError, UnknownNameError
from nasplug.files import write_whole
from nasplug.spaces import Genotypes
from nasplug.spaces.nasbench201 import EDGES, OPERATIONS

__all__ = ["DATASETS", "EDGE_LABELS", "OPERATION_NAMES", "dataset_of", "export_database", "use_database"]

DATASETS: dict[str, dict[str, dict[str, str]]] = {
    "cifar10": {
        "cifar10-valid": {"valid_acc": "valid"},
        "cifar10": {"valid_acc": "test", "test_acc": "test", "ori_test_acc": "test"},
    },
    "cifar100": {"cifar100": {"train_acc": "train", "valid_acc": "valid", "test_acc": "test"}},
    "imagenet16-120": {"imagenet16-120": {"train_acc": "train", "valid_acc": "valid", "test_acc": "test"}},
}
"""Our data set -> NNI's data sets -> NNI's column: our metric.

On CIFAR-10 the benchmark's validation labels come from training on half of the training set, its test labels from
training on all of it; NNI calls the two ``cifar10-valid`` and ``cifar10``, and gives the second one split three times.
"""

EDGE_LABELS = tuple(f"{source}_{target}" for source, target in EDGES)
"""NNI's name of each site."""

OPERATION_NAMES = tuple(name.removeprefix("nor_") for name in OPERATIONS)
"""NNI's name of each operation."""

_ACCURACIES = ("train_acc", "valid_acc", "test_acc", "ori_test_acc")
_LOSSES = ("train_loss", "valid_loss", "test_loss", "ori_test_loss")
_MEASURED = ("parameters", "latency", "flops", "training_time")
_TIMES = ("valid_evaluation_time", "test_evaluation_time", "ori_test_evaluation_time")
_STATS = (*_ACCURACIES, *_LOSSES, *_MEASURED, *_TIMES)


def _reals(names: tuple[str, ...]) -> str:
    return ", ".join(f'"{name}" REAL' for name in names)


_SCHEMA = f"""
CREATE TABLE "nb201trialconfig" ("id" INTEGER NOT NULL PRIMARY KEY, "arch" JSON NOT NULL, "num_epochs" INTEGER NOT NULL,
    "num_channels" INTEGER NOT NULL, "num_cells" INTEGER NOT NULL, "dataset" VARCHAR(20) NOT NULL);
CREATE TABLE "nb201trialstats" ("id" INTEGER NOT NULL PRIMARY KEY, "config_id" INTEGER NOT NULL,
    "seed" INTEGER NOT NULL, {_reals(_STATS)}, FOREIGN KEY ("config_id") REFERENCES "nb201trialconfig" ("id"));
CREATE TABLE "nb201intermediatestats" ("id" INTEGER NOT NULL PRIMARY KEY, "trial_id" INTEGER NOT NULL,
    "current_epoch" INTEGER NOT NULL, {_reals((*_ACCURACIES, *_LOSSES))},
    FOREIGN KEY ("trial_id") REFERENCES "nb201trialstats" ("id"));
"""
_INDEXES = {
    "nb201trialconfig": ("arch", "num_epochs", "dataset"),
    "nb201trialstats": ("config_id",),
    "nb201intermediatestats": ("trial_id", "current_epoch"),
}


def dataset_of(name: str) -> str:
    """Return the data set that a table's name speaks of; raises InputError where it speaks of none."""
    for dataset, mark in (("cifar100", "cifar100"), ("cifar10", "cifar10"), ("imagenet16-120", "imagenet")):
        if mark in Path(name).stem.lower():
            return dataset
    raise InputError(f"the name {name!r} tells no data set; write {name}=DATASET, one of {', '.join(DATASETS)}")


def export_database(tables: Mapping[str, TableBenchmark], path: Path, *, mean: bool = False) -> dict[str, int]:
    """Write one database of several tables and return how many trainings it holds of each of NNI's data sets.

    Args:
        tables: data set (``cifar10``, ``cifar100``, ``imagenet16-120``) -> table over NAS-Bench-201 with metrics
            ``valid@EPOCHS`` or ``test@EPOCHS``. Taken too, where there are any: ``train@EPOCHS``, ``train_s@EPOCHS``,
            ``latency_ms``, ``params``, ``flops``.
        path: the file; one that was there is replaced.
        mean: one training a configuration, the mean over training seeds. NNI's ``NasBench201Benchmark`` picks one of
            several from Python's global random stream, so that only this makes it repeatable.

    Raises:
        InputError: a table over another space, or without such a metric.
        UnknownNameError: a data set that NNI has not.
        DataError: the file cannot be written.
    """
    connection = sqlite3.connect(":memory:")
    connection.executescript(_SCHEMA)
    counts: dict[str, int] = {}
    for dataset, table in tables.items():
        if dataset not in DATASETS:
            raise UnknownNameError("data set of NNI's NAS-Bench-201", dataset, DATASETS)
        if table.info.space != "nasbench201":
            raise InputError(f"NNI's database is of NAS-Bench-201; {table.name} is a table over {table.info.space!r}")
        found = {name: _insert(connection, table, name, of, mean) for name, of in DATASETS[dataset].items()}
        if not any(found.values()):
            raise InputError(
                f"{table.name} has no metric valid@EPOCHS or test@EPOCHS, which NNI's database needs; "
                f"it holds {', '.join(table.columns())}"
            )
        counts |= {name: count for name, count in found.items() if count}
    for table_name, columns in _INDEXES.items():
        for column in columns:
            connection.execute(f'CREATE INDEX "{table_name}_{column}" ON "{table_name}" ("{column}")')
    connection.commit()
    content = connection.serialize()
    connection.close()
    write_whole(path, lambda temporary: temporary.write_bytes(content))
    return counts


def _insert(
    connection: sqlite3.Connection, table: TableBenchmark, dataset: str, metrics: Mapping[str, str], mean: bool
) -> int:
    """Add a data set's trainings of every length that the table holds; return how many."""
    cells = _cells(table.architectures())
    held = [split_column(column) for column in table.columns()]
    lengths = sorted({epochs for metric, epochs in held if epochs and metric in metrics.values()})
    total = 0
    for epochs in lengths:
        accuracies = {nni: table.column(f"{ours}@{epochs}") for nni, ours in metrics.items() if (ours, epochs) in held}
        labels = max(accuracies.values(), key=lambda values: values.shape[1])
        seeds = 1 if mean else labels.shape[1]
        columns: dict[str, NDArray[np.float64] | None] = {
            **{nni: values * 100 for nni, values in accuracies.items()},
            "parameters": _column(table, "params", 1e-6),
            "latency": _column(table, "latency_ms", 1e-3),
            "flops": _column(table, "flops", 1e-6),
            "training_time": _column(table, f"train_s@{epochs}", 1.0),
        }
        first = connection.execute("SELECT COALESCE(MAX(id), 0) + 1 FROM nb201trialconfig").fetchone()[0]
        connection.executemany(
            "INSERT INTO nb201trialconfig VALUES (?, ?, ?, 16, 5, ?)",
            ((first + row, cell, epochs, dataset) for row, cell in enumerate(cells)),
        )
        there = np.ones((len(cells), 1), dtype=bool) if mean else ~np.isnan(labels)
        rows, numbers = np.nonzero(there)
        fields = [_listed(columns.get(name), seeds, rows, numbers) for name in _STATS]
        connection.executemany(
            f"INSERT INTO nb201trialstats (config_id, seed, {', '.join(_STATS)}) "
            f"VALUES ({', '.join('?' * (2 + len(_STATS)))})",
            zip((first + rows).tolist(), numbers.tolist(), *fields, strict=True),
        )
        total += len(rows)
    return total


def _cells(genotypes: Genotypes) -> list[str]:
    """Return each architecture as NNI keys it: JSON without blanks, its edges sorted by name."""
    order = sorted(range(len(EDGE_LABELS)), key=EDGE_LABELS.__getitem__)
    return [
        json.dumps({EDGE_LABELS[site]: OPERATION_NAMES[codes[site]] for site in order}, separators=(",", ":"))
        for codes in genotypes.tolist()
    ]


def _column(table: TableBenchmark, name: str, factor: float) -> NDArray[np.float64] | None:
    return table.column(name) * factor if name in table.columns() else None


def _listed(
    values: NDArray[np.float64] | None, seeds: int, rows: NDArray[np.intp], numbers: NDArray[np.intp]
) -> list[float | None]:
    """Return a column's value of each training: the mean over seeds where it has not as many as there are trainings."""
    if values is None:
        return [None] * len(rows)
    if values.shape[1] != seeds:
        values = np.broadcast_to(np.nanmean(values, axis=1, keepdims=True), (len(values), seeds))
    return [None if value != value else value for value in values[rows, numbers].tolist()]


def use_database(path: str | Path) -> None:
    """Let ``nni.nas.benchmark`` answer from this file, for the rest of the process.

    NNI opens a file in NASBENCHMARK_DIR by itself only if its checksum is that of NNI's own download, so a file of
    ours is handed over here; it is opened for reading alone.

    Raises:
        DataError: no such file, or not one of these databases.
        MissingDependencyError: the packages of the extra ``nni-nas`` are not installed.
    """
    path = Path(path)
    try:
        connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
        try:
            rows: list[Any] = connection.execute("SELECT 1 FROM nb201trialconfig, nb201trialstats LIMIT 1").fetchall()
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise DataError(f"{path} is not NNI's NAS-Bench-201 database ({error}); {_REMEDY}") from error
    if not rows:
        raise DataError(f"{path} holds no trainings; {_REMEDY}")
    try:
        from nni.nas.benchmark.nasbench201.schema import proxy
        from playhouse.sqlite_ext import SqliteExtDatabase
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            f"NNI's benchmarks need the package {error.name!r}; pip install 'nasplug[nni-nas]'"
        ) from error
    proxy.initialize(SqliteExtDatabase(f"{path.resolve().as_uri()}?mode=ro", uri=True))


_REMEDY = "write it with: nasplug data export nasbench201-cifar10 FILE.db"
