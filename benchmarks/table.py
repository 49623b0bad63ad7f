"""Tables: labels of listed architectures in one columnar, memory-mapped file, and the benchmark that answers from it.

File: Arrow IPC (Feather version 2, uncompressed), one record batch, rows sorted by the space's key. First one int8 or
int32 column a site, ``site:NAME``; then one column a metric: float64, or a fixed-size list of float64 where labels
exist for several training seeds (NaN, at the end of the list, for a seed that an architecture lacks). A metric's column
is named ``METRIC@EPOCHS``, or ``METRIC`` where training length means nothing. Everything else is JSON in the schema.

Shapes:
    r: rows; s: sites; k: training seeds; n: genotypes asked for.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from nasplug import registry
from nasplug.benchmarks.base import Benchmark, Signal, is_cost
from nasplug.errors import DataError, InputError, NasplugError, UnknownNameError
from nasplug.files import write_whole
from nasplug.spaces import Genotypes, Space

__all__ = ["FORMAT_VERSION", "Table", "TableBenchmark", "TableInfo", "read_table", "split_column", "write_table"]

FORMAT_VERSION = 1
SUFFIX = ".arrow"
MAX_SEEDS = 100
_META_KEY = b"nasplug"
_SITE = "site:"
_COLUMN = re.compile(r"(?P<metric>[A-Za-z_][\w.-]*)(?:@(?P<epochs>[1-9]\d{0,5}))?")
_VERIFIED_BYTES = 8 * 2**20  # larger tables take too long to check against their checksum at every opening


def split_column(column: str) -> tuple[str, int | None]:
    """Return (metric, epochs) of a column name such as ``valid@200``; raises InputError showing it."""
    match = _COLUMN.fullmatch(column)
    if match is None:
        raise InputError(f"expected METRIC or METRIC@EPOCHS, such as valid@200 or latency_ms, got {column!r}")
    return match["metric"], int(match["epochs"]) if match["epochs"] else None


@dataclass(frozen=True)
class TableInfo:
    """What a table's labels are and where they come from.

    Attributes:
        space: registered name of the space.
        search: what a search sees by default.
        report: what a report shows by default.
        source: where the labels come from, with a version.
        licence: the source's licence, or that it is unknown.
        notes: sentences every report must carry.
        continues: the training lengths of a metric are points of one training (:attr:`Benchmark.continues`).
    """

    space: str
    search: Signal
    report: Signal
    source: str
    licence: str
    notes: tuple[str, ...] = ()
    continues: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-ready dict; :meth:`from_json` reads it."""
        return dataclasses.asdict(self) | {
            "search": str(self.search),
            "report": str(self.report),
            "notes": list(self.notes),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> TableInfo:
        """Read :meth:`to_json`'s dict; raises InputError, KeyError or TypeError where it is something else."""
        texts = [data[key] for key in ("space", "source", "licence", "search", "report")] + list(data["notes"])
        if not all(isinstance(text, str) for text in texts):
            raise InputError("metadata must be texts")
        return cls(
            data["space"],
            Signal.parse(data["search"]),
            Signal.parse(data["report"]),
            data["source"],
            data["licence"],
            tuple(data["notes"]),
            data.get("continues") is True,
        )


@dataclass(frozen=True, eq=False)
class Table:
    """Genotypes with labels, sorted by key and checked: what a table file holds.

    Args:
        info: description and provenance.
        space: the space that ``info.space`` names.
        genotypes: ``(r, s)``, valid and distinct, in any order (sorted here).
        columns: name -> float64 ``(r,)``, or ``(r, k)`` with NaN for a seed that a row lacks (moved to the end here).

    Raises:
        DataError: no rows, doubled architectures, misshapen or infinite labels, a row without a label, or a default
            signal that the columns do not hold.
    """

    info: TableInfo
    space: Space
    genotypes: Genotypes
    columns: Mapping[str, NDArray[np.float64]]

    def __post_init__(self) -> None:
        if not len(self.genotypes) or not self.columns:
            raise DataError(f"a table needs at least one architecture and one metric, got {len(self.genotypes)} rows")
        genotypes = self.space.check(self.genotypes)
        keys = self.space.keys(genotypes)
        order = np.argsort(keys, kind="stable")
        same = np.flatnonzero(np.diff(keys[order]) == 0)
        if len(same):
            row = int(order[same[0] + 1])
            raise DataError(
                f"row {row}: architecture {self.space.to_string(genotypes[row : row + 1])[0]} is there twice; "
                "keep one row an architecture"
            )
        columns = {}
        for name, values in self.columns.items():
            split_column(name)
            packed = _packed(np.asarray(values, dtype=np.float64), len(genotypes), name)
            columns[name] = packed[order]
        object.__setattr__(self, "genotypes", genotypes[order])
        object.__setattr__(self, "columns", columns)
        for signal in (self.info.search, self.info.report):
            _check_signal(signal, columns)

    def to_arrow(self) -> pa.Table:
        """Return the arrow table of the file, metadata and checksum included."""
        arrays, fields = [], []
        for site, parameter in enumerate(self.space.parameters):
            codes = self.genotypes[:, site].astype(np.int8 if parameter.size <= 127 else np.int32)
            arrays.append(pa.array(codes))
            fields.append(pa.field(f"{_SITE}{parameter.name}", arrays[-1].type, nullable=False))
        for name, values in self.columns.items():
            array = pa.array(np.ascontiguousarray(values).reshape(-1))
            if values.ndim == 2:
                array = pa.FixedSizeListArray.from_arrays(array, values.shape[1])
            arrays.append(array)
            fields.append(pa.field(name, array.type, nullable=False))
        batch = pa.RecordBatch.from_arrays(arrays, schema=pa.schema(fields))
        meta = {"version": FORMAT_VERSION, "rows": len(self.genotypes), "checksum": _checksum(batch, self.info)}
        meta |= self.info.to_json()
        text = json.dumps(meta, sort_keys=True, ensure_ascii=False).encode()
        return pa.Table.from_batches([batch.replace_schema_metadata({_META_KEY: text})])


def _packed(values: NDArray[np.float64], rows: int, name: str) -> NDArray[np.float64]:
    """Return labels with each row's NaN moved to the end; raises DataError where a row has none."""
    if values.ndim not in (1, 2) or len(values) != rows or (values.ndim == 2 and not 1 <= values.shape[1] <= MAX_SEEDS):
        raise DataError(f"metric {name!r} must have shape ({rows},) or ({rows}, k <= {MAX_SEEDS}), got {values.shape}")
    table = values.reshape(rows, -1)
    if np.isinf(table).any():
        raise DataError(f"metric {name!r} is infinite in row {int(np.argmax(np.isinf(table).any(axis=1)))}")
    lacking = np.isnan(table)
    if lacking.all(axis=1).any():
        raise DataError(f"metric {name!r} has no value in row {int(np.argmax(lacking.all(axis=1)))}")
    if table.shape[1] == 1:
        return table[:, 0]
    return np.take_along_axis(table, np.argsort(lacking, axis=1, kind="stable"), axis=1)


def _check_signal(signal: Signal, columns: Mapping[str, Any]) -> None:
    epochs = [e for metric, e in map(split_column, columns) if metric == signal.metric]
    if not epochs or (signal.epochs is not None and signal.epochs not in epochs):
        raise UnknownNameError("metric", str(signal).partition(":")[0], columns)


def _checksum(batch: pa.RecordBatch, info: TableInfo) -> str:
    """Return blake2b-128 over the space, the column names and the column buffers, as hex."""
    digest = hashlib.blake2b(info.space.encode(), digest_size=16)
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        values = column.flatten() if pa.types.is_fixed_size_list(column.type) else column
        digest.update(f"\0{name}\0{column.type}\0".encode())
        digest.update(np.ascontiguousarray(values.to_numpy(zero_copy_only=True)).data)
    return digest.hexdigest()


class TableBenchmark(Benchmark):
    """A benchmark that looks its labels up in a table: millions of queries a second, opened in milliseconds.

    Seed index j of a query is the j-th training seed that each architecture has; ``n_seeds`` counts those that every
    architecture has, and the mean over seeds takes all of them, also those that only some have.

    Args:
        name: what reports call it.
        arrow: the content, from :meth:`Table.to_arrow` or :func:`read_table`.
        where: the file it came from, for messages.

    Raises:
        DataError: the content is not a nasplug table, or is damaged.
    """

    def __init__(self, name: str, arrow: pa.Table, where: str | None = None):
        self.name = name
        self._where = where or f"table {name!r}"
        try:
            self._read(arrow)
        except DataError:
            raise
        except NasplugError as error:
            raise DataError(_damaged(self._where, error)) from error
        except (pa.ArrowException, KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(_damaged(self._where, f"{type(error).__name__}: {error}")) from error

    def _read(self, arrow: pa.Table) -> None:
        meta = json.loads((arrow.schema.metadata or {}).get(_META_KEY, b"null"))
        if not isinstance(meta, dict):
            raise InputError("it has no nasplug metadata")
        if meta["version"] != FORMAT_VERSION:
            raise InputError(f"it has format version {meta['version']!r}, this nasplug reads {FORMAT_VERSION}")
        self.info = TableInfo.from_json(meta)
        self.space = registry.load("space", self.info.space)()
        self.search, self.report, self.notes = self.info.search, self.info.report, self.info.notes
        self.continues = self.info.continues
        self.checksum = str(meta["checksum"])
        batches = arrow.to_batches()
        if len(batches) != 1 or arrow.num_rows != meta["rows"] or not arrow.num_rows:
            raise InputError(f"it has {arrow.num_rows} rows in {len(batches)} batches, its header says {meta['rows']}")
        self._batch = batches[0]
        self._batch.validate(full=True)
        names = self._batch.schema.names
        sites = [f"{_SITE}{p.name}" for p in self.space.parameters]
        if names[: len(sites)] != sites:
            raise InputError(f"its columns {names[: len(sites)]} are not the sites of space {self.info.space!r}")
        if self._batch.nbytes <= _VERIFIED_BYTES:
            self.verify()
        self._genotypes = np.stack([c.to_numpy().astype(np.int64) for c in self._batch.columns[: len(sites)]], axis=1)
        self._genotypes.flags.writeable = False
        self._keys = self.space.keys(self._genotypes)
        if not self.space.in_range(self._genotypes).all() or not (np.diff(self._keys) > 0).all():
            raise InputError("its rows are not sorted, distinct architectures of the space")
        if self.rows < self.space.size:
            self.notes += (
                f"The table holds {self.rows} of the {self.space.size:.6g} architectures of {self.info.space}: "
                "a search that proposes another one fails there, and is charged.",
            )
        self._columns: dict[str, dict[int | None, NDArray[np.float64]]] = {}
        for name, column in zip(names[len(sites) :], self._batch.columns[len(sites) :], strict=True):
            metric, epochs = split_column(name)
            self._columns.setdefault(metric, {})[epochs] = _labels(name, column)
        self._means: dict[tuple[str, int | None], NDArray[np.float64]] = {}
        self._seed_counts: dict[tuple[str, int | None], int] = {}
        for signal in (self.search, self.report):
            _check_signal(signal, self.columns())

    def __repr__(self) -> str:
        return f"TableBenchmark({self.name!r}, rows={len(self._keys)}, metrics={list(self.columns())})"

    def verify(self) -> str:
        """Return the content's checksum; raises DataError if it is not the one written.

        Opening does this already for tables of up to 8 MB.
        """
        actual = _checksum(self._batch, self.info)
        if actual != self.checksum:
            raise DataError(_damaged(self._where, f"its checksum is {actual}, {self.checksum} was written"))
        return actual

    @property
    def rows(self) -> int:
        """Number of architectures."""
        return len(self._keys)

    def columns(self) -> dict[str, int]:
        """Return column name -> the most training seeds that an architecture has, metric by metric."""
        return {
            metric + (f"@{epochs}" if epochs else ""): values.shape[1]
            for metric, by_epochs in self._columns.items()
            for epochs, values in by_epochs.items()
        }

    def architectures(self) -> Genotypes:
        return self._genotypes

    def table(self) -> Table:
        """Return the content, to change it."""
        columns = {name: self.column(name) for name in self.columns()}
        return Table(self.info, self.space, self._genotypes, columns)

    def column(self, name: str) -> NDArray[np.float64]:
        """Return all labels of a column, ``(r, k)``, read-only, NaN for a seed that a row lacks."""
        metric, epochs = split_column(name)
        return self._labels(metric, epochs)[1]

    def query(
        self, genotypes: Genotypes, metric: str, *, epochs: int | None = None, seed: int | None = None
    ) -> NDArray[np.float64]:
        epochs, values = self._labels(metric, epochs)
        if seed is None:
            if (metric, epochs) not in self._means:
                self._means[metric, epochs] = values[:, 0] if values.shape[1] == 1 else np.nanmean(values, axis=1)
            return self._means[metric, epochs][self._row(genotypes)]
        if not 0 <= seed < (n_seeds := self.n_seeds(metric, epochs)):
            raise DataError(f"{self.name} has training seeds 0..{n_seeds - 1} of {metric}, got {seed}")
        labels: NDArray[np.float64] = values[self._row(genotypes), seed]
        return labels

    def seed_values(self, genotypes: Genotypes, metric: str, epochs: int | None = None) -> NDArray[np.float64]:
        return self._labels(metric, epochs)[1][self._row(genotypes)]

    def n_seeds(self, metric: str, epochs: int | None = None) -> int:
        epochs, values = self._labels(metric, epochs)
        if (metric, epochs) not in self._seed_counts:  # asked at every query of a ':one' signal
            count = 1 if values.shape[1] == 1 else int((~np.isnan(values)).sum(axis=1).min())
            self._seed_counts[metric, epochs] = count
        return self._seed_counts[metric, epochs]

    def fidelities(self, metric: str) -> tuple[int, ...]:
        self._labels(metric, None)
        return tuple(sorted(epochs for epochs in self._columns[metric] if epochs))

    def costs(self) -> tuple[str, ...]:
        return tuple(sorted(metric for metric in self._columns if is_cost(metric)))

    def cost_s(self, genotypes: Genotypes, signal: Signal) -> NDArray[np.float64]:
        """Return the seconds of one training of the signal's length, ``(n,)``; NaN where the table has none.

        A mean over training seeds is charged as one training too, the convention of published comparisons.
        """
        epochs = self._labels(signal.metric, signal.epochs)[0]
        if epochs not in self._columns.get("train_s", {}):
            return np.full(len(genotypes), np.nan)
        return self.query(genotypes, "train_s", epochs=epochs)

    def provenance(self) -> dict[str, Any]:
        return {
            "benchmark": self.name,
            "space": self.info.space,
            "rows": self.rows,
            "checksum": f"blake2b:{self.checksum}",
            "source": self.info.source,
            "licence": self.info.licence,
        }

    def _labels(self, metric: str, epochs: int | None) -> tuple[int | None, NDArray[np.float64]]:
        if metric not in self._columns:
            raise UnknownNameError(f"metric of {self.name}", metric, self._columns)
        held = self._columns[metric]
        if epochs is None:
            epochs = max(held, key=lambda e: e or 0)
        if epochs not in held:
            known = ", ".join(str(e) for e in held if e) or "no training length"
            raise DataError(f"{self.name} holds {metric} at {known} epochs, got {epochs}")
        return epochs, held[epochs]

    def _row(self, genotypes: Genotypes) -> NDArray[np.int64]:
        genotypes = np.asarray(genotypes)
        if genotypes.ndim != 2 or genotypes.shape[1] != self.space.n_sites or genotypes.dtype.kind != "i":
            genotypes = self.space.check(genotypes)
        keys = self.space.keys(genotypes)
        row = self._row_of_key(keys)
        missing = (self._keys[row] != keys) | ~self.space.in_range(genotypes)
        if missing.any():
            self.space.check(genotypes)  # an architecture that cannot exist gets its own message
            first = int(np.argmax(missing))
            raise DataError(
                f"{self.name} does not hold {self.space.to_string(genotypes[first : first + 1])[0]} (row {first}); "
                f"it holds {self.rows} of the {self.space.size:.6g} architectures of {self.info.space!r}"
            )
        return row

    def _row_of_key(self, keys: NDArray[np.int64]) -> NDArray[np.int64]:
        dense, last = self._dense, len(self._keys) - 1
        row: NDArray[np.int64]
        if dense is None:
            row = np.minimum(np.searchsorted(self._keys, keys), last)
        else:
            row = dense[np.clip(keys - self._keys[0], 0, len(dense) - 1)]
        return row

    @cached_property
    def _dense(self) -> NDArray[np.int64] | None:
        """Row of every key between the first and the last, where that list is short; 0 where there is no row."""
        span = int(self._keys[-1]) - int(self._keys[0]) + 1
        if span > 16 * len(self._keys):
            return None
        rows = np.zeros(span, dtype=np.int64)
        rows[self._keys - self._keys[0]] = np.arange(len(self._keys))
        return rows


def _labels(name: str, column: pa.Array) -> NDArray[np.float64]:
    """Return a metric column as ``(r, k)`` without copying."""
    width = column.type.list_size if pa.types.is_fixed_size_list(column.type) else 1
    values = column.flatten() if pa.types.is_fixed_size_list(column.type) else column
    if values.type != pa.float64() or values.null_count or len(values) != len(column) * width:
        raise InputError(f"column {name!r} is {column.type}, expected float64 without nulls")
    table: NDArray[np.float64] = values.to_numpy(zero_copy_only=True).reshape(-1, width)
    return table


def _damaged(where: str, reason: object) -> str:
    return f"{where} is not a usable nasplug table ({reason}); add or convert it again with 'nasplug data add'"


def read_table(path: Path, name: str | None = None) -> TableBenchmark:
    """Open a table file, memory-mapped; raises DataError naming the file where it is missing, foreign or damaged."""
    if not path.is_file():
        raise DataError(f"no table file {path}; 'nasplug data list' shows the tables there are")
    try:
        with pa.memory_map(str(path)) as source:
            arrow = pa.ipc.open_file(source).read_all()
    except (pa.ArrowException, OSError) as error:
        raise DataError(_damaged(str(path), error)) from error
    return TableBenchmark(name or path.stem, arrow, str(path))


def write_table(arrow: pa.Table, path: Path) -> None:
    """Write a table file whole or not at all.

    Raises: DataError if the folder cannot be made or written, or is full; a file that was there stays as it was.
    """

    def save(temporary: Path) -> None:
        with pa.OSFile(str(temporary), "wb") as sink, pa.ipc.new_file(sink, arrow.schema) as writer:
            writer.write_table(arrow)

    write_whole(path, save, remedy="free space, make the folder writable, or set NASPLUG_DATA to another one")
