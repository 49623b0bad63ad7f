"""What a comparison leaves: finished runs, one file each, and the two tables made of them all."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from nasplug.benchmarks.search import Arena, Step
from nasplug.spaces import Genotypes
from nasplug.strategies import Status

__all__ = ["COST", "META_KEY", "Trace", "read_trace", "save_table", "save_trace", "tables_of", "trace_of"]

META_KEY = b"nasplug"
COST = "cost:"
"""What the columns of ``results.parquet`` that hold a cost of the architecture begin with."""

Trace = NDArray[np.void]
"""A run as a structured array, one row a query: genotype, value, cost_s, status, suggest_ms, epochs, spent.

Epochs are 0 where a training length means nothing; ``spent`` is how much of the budget is, after the query.
"""


_STATUS_NAMES = np.array([status.name.lower() for status in Status], dtype=object)
_RESULTS = pa.schema(
    [
        ("benchmark", pa.string()),
        ("strategy", pa.string()),
        ("seed", pa.int32()),
        ("query", pa.int32()),
        ("architecture", pa.string()),
        ("value", pa.float64()),
        ("report_value", pa.float64()),
        ("cost_s", pa.float64()),
        ("status", pa.string()),
    ]
)
_EARLY_RESULTS = _RESULTS.append(pa.field("epochs", pa.int32())).append(pa.field("spent", pa.float64()))
"""Where a strategy stops trainings early: how long each was, and how much of the budget is spent after it."""


def _type(n_sites: int) -> np.dtype[np.void]:
    return np.dtype(
        [
            ("genotype", "<i8", (n_sites,)),
            ("value", "<f8"),
            ("cost_s", "<f8"),
            ("status", "i1"),
            ("suggest_ms", "<f8"),
            ("epochs", "<i4"),
            ("spent", "<f8"),
        ]
    )


def trace_of(steps: Sequence[Step], n_sites: int) -> Trace:
    """Return a run as a trace."""
    rows = [
        (o.genotype, o.value, o.cost_s, o.status, 1e3 * step.suggest_s, o.epochs or 0, step.spent)
        for step in steps
        for o in [step.observation]
    ]
    return np.array(rows, dtype=_type(n_sites))


def save_trace(trace: Trace, path: Path) -> None:
    """Write a finished run."""
    with path.open("wb") as file:
        np.save(file, trace, allow_pickle=False)


def save_table(table: pa.Table, facts: Mapping[str, Any], path: Path) -> None:
    """Write a table as Parquet, with JSON-ready facts in its metadata under :data:`META_KEY`."""
    text = json.dumps(facts)
    with path.open("wb") as file:
        pq.write_table(table.replace_schema_metadata({META_KEY: text.encode()}), file, compression="zstd")
        file.flush()
        os.fsync(file.fileno())


def read_trace(path: Path, n_sites: int, budget: int) -> Trace | None:
    """Return what a finished run did with a budget, or None where it is missing, shorter or damaged."""
    try:
        trace: Trace = np.load(path, allow_pickle=False)
    except Exception:  # a damaged file raises nearly anything; it is made again
        return None
    if trace.dtype != _type(n_sites) or trace.ndim != 1 or not (trace["spent"] >= budget).any():
        return None
    return trace[trace["spent"] <= budget]


def tables_of(
    runs: Sequence[tuple[str, str, int, Trace]], arenas: Mapping[str, Arena], *, early: bool
) -> tuple[pa.Table, pa.Table]:
    """Return (results, timings) of runs (benchmark, strategy, seed, trace), rows in the order of the runs.

    Report labels and costs are looked up here, after all searches. ``early``: some strategy stops trainings early, and
    the length of each training is told.
    """
    schema = _EARLY_RESULTS if early else _RESULTS
    for metric in sorted({metric for arena in arenas.values() for metric in arena.benchmark.costs()}):
        schema = schema.append(pa.field(f"{COST}{metric}", pa.float64()))
    results: dict[str, list[Any]] = {key: [] for key in dict.fromkeys([*_EARLY_RESULTS.names, *schema.names])}
    for benchmark, strategy, seed, trace in runs:
        arena = arenas[benchmark]
        genotypes = trace["genotype"]
        results["benchmark"].append(np.full(len(trace), benchmark, dtype=object))
        results["strategy"].append(np.full(len(trace), strategy, dtype=object))
        results["seed"].append(np.full(len(trace), seed))
        results["query"].append(np.arange(1, len(trace) + 1))
        results["architecture"].append(np.array(arena.benchmark.space.to_string(genotypes), dtype=object))
        results["value"].append(trace["value"])
        finished = trace["status"] == Status.OK
        report_label = partial(arena.benchmark.labels, signal=arena.report, run=seed)
        results["report_value"].append(_where(finished, genotypes, report_label))
        results["cost_s"].append(trace["cost_s"])
        results["status"].append(_STATUS_NAMES[trace["status"]])
        results["epochs"].append(trace["epochs"])
        results["spent"].append(trace["spent"])
        for key in results.keys() - set(_EARLY_RESULTS.names):
            held = key.removeprefix(COST) in arena.benchmark.costs()
            cost = partial(arena.benchmark.query, metric=key.removeprefix(COST))
            results[key].append(_where(finished & held, genotypes, cost))
    columns: dict[str, Any] = {key: np.concatenate(parts) if parts else [] for key, parts in results.items()}
    table = pa.table(
        [pa.array(columns[field.name], type=field.type, from_pandas=True) for field in schema], schema=schema
    )
    suggest_ms = np.concatenate([trace["suggest_ms"] for *_, trace in runs]) if runs else np.empty(0)
    timings = table.select(["benchmark", "strategy", "seed", "query"])
    return table, timings.append_column("suggest_ms", pa.array(suggest_ms, pa.float64()))


def _where(
    finished: NDArray[np.bool_], genotypes: Genotypes, ask: Callable[[Genotypes], NDArray[np.float64]]
) -> NDArray[np.float64]:
    """Return what ``ask`` answers for the evaluations that finished, ``(n,)``, NaN for the others."""
    answers = np.full(len(genotypes), math.nan)
    if finished.any():
        answers[finished] = ask(genotypes[finished])
    return answers
