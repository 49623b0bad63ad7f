"""CSV and Parquet with a column of architecture strings.

A metric is named on import, ``COLUMN=METRIC[@EPOCHS][#SEED]``: ``acc12=valid@12``, or for several training seeds
``seed777=test@200#0 seed888=test@200#1``. A cell may be empty only in such a list, for a seed that an architecture
lacks. Accuracies (``valid``, ``test``, ``train`` and names ending in ``_acc`` or ``_accuracy``) become fractions; other
metrics are stored as they are.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
from numpy.typing import NDArray

from nasplug.benchmarks.base import Signal, is_cost
from nasplug.benchmarks.importers import common
from nasplug.benchmarks.importers.common import Imported, ImportOptions, Unit
from nasplug.benchmarks.table import MAX_SEEDS, Table, TableInfo, split_column
from nasplug.errors import DataError, InputError

__all__ = ["import_delimited"]

ARCH_COLUMNS = ("architecture", "arch_str", "arch")
_ACCURACY = re.compile(r"(valid|test|train)|\w*_acc(uracy)?")
_LABELLED = re.compile(r"(?P<metric>\w+)(?P<epochs>@\d+)?(#\d+)?")


def import_delimited(paths: Sequence[Path], options: ImportOptions) -> list[Imported]:
    """Return the one table whose rows are those of all ``paths`` (``.csv``, ``.parquet``, ``.gz`` allowed).

    Raises: DataError naming file, row and architecture for what cannot be used; InputError for wrong options.
    """
    space = common.open_space(options.space)
    frames = [_read(path) for path in paths]
    if any(list(frame.columns) != list(frames[0].columns) for frame in frames):
        raise DataError(
            f"{', '.join(p.name for p in paths)} have different columns; add them one by one, under one --name"
        )
    frame = pd.concat(frames, ignore_index=True) if len(frames) > 1 else frames[0]
    where = " + ".join(path.name for path in paths)
    if not len(frame):
        raise DataError(f"{where} has no rows")
    known = list(frame.columns)
    if options.arch_column is None:
        usual = [name for name in ARCH_COLUMNS if name in known]
        if not usual:
            raise InputError(f"which column of {where} has the architectures? give --arch-column, one of {known}")
        arch_column = usual[0]
    else:
        arch_column = common.near_column(options.arch_column, known, where)
    wanted = _mapping(options.metrics, [name for name in known if name != arch_column], where)
    strings = [str(text) for text in frame[arch_column]]
    genotypes = common.architectures(space, strings, where)
    columns, messages = {}, []
    left_out = set(known) - {arch_column, *(source for sources in wanted.values() for source in sources)}
    if left_out and not options.metrics:
        messages.append(
            f"columns left out: {', '.join(name for name in known if name in left_out)} (--metric takes them)"
        )
    for metric, sources in wanted.items():
        values = np.stack([_numbers(frame[name], strings, len(sources) == 1, where) for name in sources], axis=1)
        lacking = np.isnan(values).all(axis=1)
        if lacking.any():
            row = int(np.argmax(lacking))
            raise DataError(f"{where}: row {row + 1} ({strings[row]}) has no value of {metric} in {', '.join(sources)}")
        if _ACCURACY.fullmatch(split_column(metric)[0]):
            values, message = _fractions(values, options.unit, ", ".join(sources), strings, where)
            messages += [message]
        columns[metric] = values[:, 0] if values.shape[1] == 1 else values
    if len(genotypes) < space.size:
        share = f"{len(genotypes)} of the {space.size:.6g} architectures of {space.name}"
        if space.enumerable and not options.partial:
            absent = space.all()[~np.isin(space.keys(space.all()), space.keys(genotypes))]
            raise DataError(
                f"{where} holds {share}; missing is, for example, {space.to_string(absent[:1])[0]}. Complete it, or "
                "give --partial if the table is meant to be a part"
            )
        messages.append(share)
    info = TableInfo(
        space=str(options.space),
        search=Signal("valid"),
        report=Signal("test"),
        source=", ".join(f"{path.name} (blake2b {_fingerprint(path)})" for path in paths),
        licence="not stated when it was added",
    )
    table = Table(common.table_info(options, info, columns), space, genotypes, columns)
    name = re.sub(r"\.(csv|tsv|parquet|pq)(\.gz)?$", "", paths[0].name)
    return [Imported("", name, table, tuple(messages))]


def _fingerprint(path: Path) -> str:
    return hashlib.blake2b(path.read_bytes(), digest_size=8).hexdigest()


def _read(path: Path) -> pd.DataFrame:
    """Return a file's columns; those of a CSV as text."""
    data = common.read_bytes(path)
    try:
        if re.search(r"\.(parquet|pq)(\.gz)?$", path.name):
            file = pyarrow.parquet.ParquetFile(io.BytesIO(data))
            groups = [file.metadata.row_group(i).total_byte_size for i in range(file.metadata.num_row_groups)]
            if sum(groups) > common.MAX_UNPACKED_BYTES:
                raise DataError(f"{path} unpacks to {sum(groups)} bytes, more than a table needs; not read")
            frame: pd.DataFrame = file.read().to_pandas(ignore_metadata=True)
            return frame.rename(columns=str)
        separator = "\t" if ".tsv" in path.suffixes else ","
        return pd.read_csv(io.BytesIO(data), sep=separator, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text (byte {error.start}); save it as UTF-8") from error
    except (pd.errors.ParserError, pd.errors.EmptyDataError, pa.ArrowException, OSError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path} is not a readable table: {str(error).strip()}") from error


def _mapping(given: Sequence[str], known: Sequence[str], where: str) -> dict[str, list[str]]:
    """Return metric column -> source columns in seed order, from ``COLUMN=METRIC[@EPOCHS][#SEED]`` texts."""
    if not given:
        given = [f"{name}={name}" for name in known if _names_a_metric(name)]
        if not given:
            raise InputError(
                f"which columns of {where} are metrics? give --metric COLUMN=METRIC, such as "
                f"{known[0] if known else 'acc'}=valid@12; its columns are {', '.join(known)}"
            )
    seeds: dict[str, dict[int, str]] = {}
    for text in given:
        column, equals, target = text.rpartition("=")
        metric, hash_, seed = target.partition("#")
        if not (equals and column and metric) or (hash_ and not (seed.isdecimal() and int(seed) < MAX_SEEDS)):
            raise InputError(
                f"expected COLUMN=METRIC[@EPOCHS][#SEED], such as acc=valid@12 or acc=test@200#0, got {text!r}"
            )
        split_column(metric)
        sources = seeds.setdefault(metric, {})
        number = int(seed) if hash_ else -1
        if number in sources or (sources and -1 in {number, *sources}):
            raise InputError(
                f"{sources.get(number) or next(iter(sources.values()))!r} and {column!r} are both {metric}; "
                f"number their training seeds: {metric}#0, {metric}#1"
            )
        sources[number] = common.near_column(column, known, where)
    return {metric: [sources[k] for k in sorted(sources)] for metric, sources in seeds.items()}


def _names_a_metric(column: str) -> bool:
    """Return whether a column tells by its name that it is a metric: a split, a cost, or anything at so many epochs."""
    match = _LABELLED.fullmatch(column)
    return match is not None and (
        match["epochs"] is not None or match["metric"] in ("valid", "test", "train") or is_cost(match["metric"])
    )


def _numbers(column: pd.Series, strings: Sequence[str], complete: bool, where: str) -> NDArray[np.float64]:
    """Return a column as finite numbers, NaN for an empty cell where ``complete`` is false."""
    texts = column.map(lambda cell: "" if cell is None or cell != cell else str(cell).strip())
    values = pd.to_numeric(texts, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    empty = (texts == "").to_numpy()
    bad = ~np.isfinite(values) & (complete | ~empty)
    if bad.any():
        row = int(np.argmax(bad))
        got = "an empty cell" if empty[row] else repr(texts.iloc[row])
        raise DataError(f"{where}: row {row + 1} ({strings[row]}): {column.name} must be a finite number, got {got}")
    return values


def _fractions(
    values: NDArray[np.float64], unit: Unit, sources: str, strings: Sequence[str], where: str
) -> tuple[NDArray[np.float64], str]:
    """Return accuracies as fractions, and a sentence that says what was done."""
    highest = float(np.nanmax(values))
    if unit == "auto" and 1.0 < highest <= 1.5:
        raise DataError(
            f"{where}: {sources} reaches {highest:g}, which is neither clearly percent nor a fraction; give --unit"
        )
    if unit == "auto" and highest > 1.5 and np.nanmedian(values) <= 1.0:
        raise DataError(
            f"{where}: {sources} reaches {highest:g}, but most of its values are at most 1: percent and fractions "
            "mixed? correct them, or give --unit"
        )
    percent = unit == "percent" or (unit == "auto" and highest > 1.5)
    top = 100.0 if percent else 1.0
    outside = ((values < 0) | (values > top)).any(axis=1)
    if outside.any():
        row = int(np.argmax(outside))
        wrong = next(v for v in values[row] if v < 0 or v > top)
        hint = "; is it percent? then leave out --unit fraction" if unit == "fraction" and 0 <= wrong <= 100 else ""
        raise DataError(
            f"{where}: row {row + 1} ({strings[row]}): {sources} must lie in [0, {top:g}], got {wrong:g}{hint}"
        )
    how = "percent, stored as fractions (divided by 100)" if percent else "fractions, stored as they are"
    said = "" if unit != "auto" else f" (highest value {highest:g})"
    if percent and highest <= 1.0:
        said = f" (highest value {highest:g} percent: if these are fractions, add them again with --unit fraction)"
    return values / top, f"{sources}: taken as {how}{said}"
