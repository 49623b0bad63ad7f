"""What all importers share: bounded reading, checked architectures, default signals, adding columns to a table."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from nasplug import registry
from nasplug.benchmarks.base import Signal
from nasplug.benchmarks.table import Table, TableInfo, split_column
from nasplug.errors import DataError, InputError, UnknownNameError
from nasplug.spaces import Genotypes, Space

__all__ = ["ImportOptions", "Imported", "Unit"]

Unit = Literal["auto", "percent", "fraction"]
"""How a file writes accuracies."""
Progress = Callable[[int, int], None]

MAX_UNPACKED_BYTES = 2**30
"""Most that one compressed file may unpack to."""

ONE_SPLIT = (
    "One split only ({metric}): search and report see labels of the same split, so reported values are optimistic."
)


@dataclass(frozen=True)
class ImportOptions:
    """What a person says about the files to import; most is needed for CSV and Parquet only.

    Attributes:
        space: registered name of the space.
        arch_column: column of architecture strings; None tries the usual names.
        metrics: ``COLUMN=METRIC[@EPOCHS][#SEED]`` texts; none takes the columns that are named like metrics.
        unit: of accuracies; ``auto`` tells percent from fraction by the range of each metric.
        partial: whether CSV and Parquet files may lack architectures of a space that can be listed.
        search: the default signal of a search, None for the longest-trained ``valid`` (else ``test``).
        report: the default signal of a report, None for the longest-trained ``test`` (else what search sees).
        continues: the training lengths of a metric are points of one training (:class:`TableInfo`).
        source: where the labels come from; None for the files' names.
        licence: the labels' licence.
        progress: called with (done, total) during long conversions.
    """

    space: str | None = None
    arch_column: str | None = None
    metrics: Sequence[str] = ()
    unit: Unit = "auto"
    partial: bool = True
    search: str | None = None
    report: str | None = None
    continues: bool = False
    source: str | None = None
    licence: str | None = None
    progress: Progress = field(default=lambda done, total: None)


@dataclass(frozen=True)
class Imported:
    """One table made from files.

    Attributes:
        dataset: what tells the tables of one import apart, such as ``cifar100``; empty for an only table.
        name: the name to store it under if the person gives none.
        table: the table.
        messages: what a person must be told, for example that percent was recognised.
    """

    dataset: str
    name: str
    table: Table
    messages: tuple[str, ...] = ()


def read_bytes(path: Path) -> bytes:
    """Return a file's content, unpacked where the name ends in ``.gz``.

    Raises: DataError if it is missing, unreadable, truncated, or larger than :data:`MAX_UNPACKED_BYTES`.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
            data: bytes = stream.read(MAX_UNPACKED_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:  # gzip reports damage as any of these
        raise DataError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error
    if len(data) > MAX_UNPACKED_BYTES:
        raise DataError(f"{path} unpacks to more than {MAX_UNPACKED_BYTES} bytes, which no such table needs; not read")
    return data


def open_space(name: str | None) -> Space:
    """Return the registered space; raises InputError where no name was given."""
    if not name:
        raise InputError(f"which space? give --space, one of {', '.join(registry.names('space'))}")
    space: Space = registry.load("space", name)()
    return space


def architectures(space: Space, strings: Sequence[str], where: str) -> Genotypes:
    """Return the genotypes of architecture strings, ``(n, s)``; rows count from 1 in messages.

    Raises: DataError naming the first row whose architecture is blank, unknown to the space, or there twice.
    """
    for row, text in enumerate(strings, 1):
        if not text.strip():
            raise DataError(f"{where}: row {row} has no architecture; fill it in or delete the row")
    try:
        genotypes = space.from_string(strings)
    except InputError as error:
        raise DataError(f"{where}: {_first_unreadable(space, strings) or error}") from None
    keys = space.keys(genotypes)
    distinct, first, counts = np.unique(keys, return_index=True, return_counts=True)
    if len(distinct) < len(keys):
        one = int(first[np.argmax(counts > 1)])
        two = int(np.flatnonzero(keys == keys[one])[1])
        raise DataError(
            f"{where}: rows {one + 1} and {two + 1} are the same architecture, {strings[one]}; keep one row of them"
        )
    return genotypes


def _first_unreadable(space: Space, strings: Sequence[str]) -> str:
    """Return the row of the first string that the space refuses by itself, and why; empty if it is none alone."""
    for row, text in enumerate(strings, 1):
        try:
            space.from_string([text])
        except InputError as error:
            return f"row {row}: {error}"
    return ""


def default_signals(columns: Mapping[str, NDArray[np.float64]]) -> tuple[Signal, Signal]:
    """Return what search and report look at by default.

    Search sees the longest-trained ``valid``, else ``test``; a single training seed of it where there are several (what
    a real search sees). The report shows the longest-trained ``test``, else the search's metric: then the seeds that
    search does not see, if every architecture has two.

    Raises: InputError where there is neither metric.
    """
    longest: dict[str, tuple[int, NDArray[np.float64]]] = {}
    for name, values in columns.items():
        metric, epochs = split_column(name)
        if metric not in longest or (epochs or 0) > longest[metric][0]:
            longest[metric] = (epochs or 0, values)
    search = "valid" if "valid" in longest else "test"
    report = "test" if "test" in longest else search
    if search not in longest:
        raise InputError(
            f"no metric 'valid' or 'test' among {', '.join(columns)}: name one so with --metric, or say what a search "
            "and a report look at with --search and --report"
        )
    epochs, values = longest[search]
    several = values.ndim == 2 and values.shape[1] > 1
    everywhere = int((~np.isnan(values)).sum(axis=1).min()) if several else 1
    if search != report:
        return (
            Signal(search, epochs or None, "one" if several else "mean"),
            Signal(report, longest[report][0] or None),
        )
    if everywhere > 1:
        return Signal(search, epochs or None, "one"), Signal(search, epochs or None, "others")
    return Signal(search, epochs or None), Signal(search, epochs or None)


def table_info(options: ImportOptions, info: TableInfo, columns: Mapping[str, NDArray[np.float64]]) -> TableInfo:
    """Return ``info`` with default signals, then the person's own words, and the note on splits that follows."""
    if options.search and options.report:
        search, report = Signal.parse(options.search), Signal.parse(options.report)
    else:
        search, report = default_signals(columns)
        search = Signal.parse(options.search) if options.search else search
        report = Signal.parse(options.report) if options.report else report
    info = replace(
        info,
        search=search,
        report=report,
        continues=options.continues or info.continues,
        source=options.source or info.source,
        licence=options.licence or info.licence,
    )
    return with_split_note(info)


def with_split_note(info: TableInfo) -> TableInfo:
    """Return ``info`` with the note on one split exactly where search and report share a metric."""
    head, tail = ONE_SPLIT.split("{metric}")
    notes = tuple(note for note in info.notes if not (note.startswith(head) and note.endswith(tail)))
    if info.search.metric == info.report.metric:
        notes += (ONE_SPLIT.format(metric=info.search.metric),)
    return replace(info, notes=notes)


def merge(held: Table, new: Table, options: ImportOptions, *, overwrite: bool) -> Table:
    """Return ``held`` with the columns of ``new`` added.

    Signals and the note on splits follow the columns again, unless a person had chosen other signals.

    Raises: InputError for another space, other architectures, or a metric that is there already (``overwrite`` false).
    """
    if held.info.space != new.info.space:
        raise InputError(
            f"the table is of space {held.info.space!r}, the file of {new.info.space!r}; give another --name"
        )
    if not np.array_equal(held.genotypes, new.genotypes):
        ours, theirs = (set(one.space.keys(one.genotypes).tolist()) for one in (held, new))
        raise InputError(
            f"the table holds {len(ours)} architectures and the file {len(theirs)}, {len(ours & theirs)} common; "
            "columns can be added for the same architectures only: give another --name"
        )
    there = [name for name in new.columns if name in held.columns]
    if there and not overwrite:
        raise InputError(f"the table already holds {', '.join(there)}; --replace overwrites")
    columns = {**held.columns, **new.columns}
    own = (held.info.search, held.info.report)
    try:
        default = default_signals(held.columns)
    except InputError:
        default = None
    info = replace(
        held.info,
        source=_joined(held.info.source, new.info.source),
        licence=_joined(held.info.licence, new.info.licence),
        notes=tuple(dict.fromkeys(held.info.notes + new.info.notes)),
    )
    kept = ImportOptions(
        search=options.search or (None if own == default else str(own[0])),
        report=options.report or (None if own == default else str(own[1])),
    )
    return Table(table_info(kept, info, columns), held.space, held.genotypes, columns)


def _joined(first: str, second: str) -> str:
    return first if second in first.split("; ") else f"{first}; {second}"


def near_column(name: str, known: Sequence[str], where: str) -> str:
    """Return ``name`` if the file has such a column; raises UnknownNameError offering the near ones."""
    if name not in known:
        raise UnknownNameError(f"column of {where}", name, known)
    return name
