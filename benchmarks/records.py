"""The runs of a comparison as arrays, read from ``results.parquet`` and ``timings.parquet``.

What a benchmark's table says of itself (exact baselines, provenance) travels in the metadata of the first, the machine
in that of the second.

Shapes:
    r: runs of one strategy on one benchmark; t: queries of the longest of them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from nasplug.benchmarks import statistics
from nasplug.benchmarks.results import COST, META_KEY
from nasplug.errors import DataError

__all__ = ["Floats", "Runs", "read_runs"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Runs:
    """The finished runs of one strategy on one benchmark, by rising seed, with the baselines of each run's labels.

    Where a strategy stops trainings early, some runs make fewer queries: theirs end in queries that cost nothing.
    """

    benchmark: str
    strategy: str
    seeds: NDArray[np.int64]
    values: Floats
    """What the search saw, ``(r, t)``, NaN where it did not finish."""
    reports: Floats
    failed: NDArray[np.bool_]
    stopped: NDArray[np.bool_]
    spent: Floats
    """Of the budget, when each evaluation ends: the number of the query, where evaluations are bought whole."""
    cost_s: Floats
    suggest_ms: Floats
    costs: Mapping[str, Floats]
    """What each architecture costs, ``(r, t)`` a metric; only metrics that the benchmark holds."""
    architectures: NDArray[np.object_]
    """What each run recommends, ``(r,)``; None where nothing finished."""
    baselines: Sequence[Mapping[str, Any]] | None
    """One a run, None where the benchmark's architectures cannot be listed."""

    def baseline(self, key: str) -> Floats:
        """Return a number of the table under each run's training seed, ``(r,)``; NaN where unknown."""
        if self.baselines is None:
            return np.full(len(self.seeds), math.nan)
        return np.array([one[key] for one in self.baselines])

    @cached_property
    def curve(self) -> Floats:
        """Report label of the incumbent after each query, ``(r, t)``: chosen by what the search saw."""
        best = statistics.incumbents(self.values)
        return np.where(best < 0, math.nan, np.take_along_axis(self.reports, np.maximum(best, 0), axis=1))

    @cached_property
    def final(self) -> Floats:
        """Report label of what each run recommends, ``(r,)``."""
        return self.curve[:, -1]

    def final_cost(self, metric: str) -> Floats:
        """Return what the architecture that each run recommends costs, ``(r,)``."""
        best = statistics.incumbents(self.values)[:, -1]
        return np.where(best < 0, math.nan, self.costs[metric][np.arange(len(best)), np.maximum(best, 0)])

    @cached_property
    def seconds(self) -> Floats:
        """Simulated seconds spent when each evaluation ends, ``(r, t)``; one that failed counts nothing."""
        return np.cumsum(np.where(self.failed, 0.0, self.cost_s), axis=1)

    def spent_until(self, values: Floats, target: Floats) -> tuple[Floats, NDArray[np.bool_]]:
        """Return what of the budget is spent when ``values (r, t)`` reach a target, all of it where they do not."""
        query, reached = statistics.queries_until(values, target)
        return np.where(reached, self.spent[np.arange(len(query)), query - 1], self.spent[:, -1]), reached


def read_runs(folder: Path) -> tuple[list[Runs], dict[str, Any], dict[str, Any]]:
    """Return the runs in an output folder, strategy by strategy, what the study says of itself, and the machine.

    Raises: DataError where the files of a comparison are missing or damaged.
    """
    results, facts = _read(folder / "results.parquet")
    timings, machine = _read(folder / "timings.parquet")
    return list(_runs(results, timings, facts)), facts, machine


def _read(path: Path) -> tuple[pa.Table, dict[str, Any]]:
    if not path.is_file():
        raise DataError(f"{path} is missing; run 'nasplug compare --out {path.parent}' to make it")
    try:
        table = pq.read_table(path)
        meta = json.loads((table.schema.metadata or {})[META_KEY])
    except (pa.ArrowException, OSError, KeyError, ValueError) as error:
        raise DataError(f"{path} is not a file of 'nasplug compare' ({error}); run it again on this folder") from error
    return table, meta


def _runs(results: pa.Table, timings: pa.Table, facts: Mapping[str, Any]) -> Iterator[Runs]:
    """Yield strategies in the order of the study, benchmark by benchmark; one without a finished run is left out."""
    if not len(results):
        return
    try:
        starts = np.flatnonzero(_column(results, "query") == 1)
        lengths = np.diff(starts, append=len(results))
        names = [np.asarray(results[key].to_pylist(), dtype=object)[starts] for key in ("benchmark", "strategy")]
        seeds = results["seed"].to_numpy()[starts]
        status = np.asarray(results["status"].to_pylist(), dtype=object)
        spent = _column(results, "spent" if "spent" in results.column_names else "query")
        costs = {
            key.removeprefix(COST): _by_run(_column(results, key), lengths, math.nan)
            for key in results.column_names
            if key.startswith(COST)
        }
        values = _by_run(np.where(status == "ok", _column(results, "value"), math.nan), lengths, math.nan)
        best = statistics.incumbents(values)[:, -1]
        architectures = np.array(results["architecture"].take(starts + np.maximum(best, 0)).to_pylist(), dtype=object)
        architectures[best < 0] = None
        columns = {
            "values": values,
            "reports": _by_run(_column(results, "report_value"), lengths, math.nan),
            "failed": _by_run(status == "failed", lengths, False),
            "stopped": _by_run(status == "pruned", lengths, False),
            "spent": _by_run(spent, lengths, facts["budget"]),
            "cost_s": _by_run(_column(results, "cost_s"), lengths, 0.0),
            "suggest_ms": _by_run(_column(timings, "suggest_ms"), lengths, math.nan),
        }
    except (KeyError, ValueError) as error:
        raise DataError(
            f"results.parquet and timings.parquet do not belong together ({error}); run it again"
        ) from error
    for name, about in facts["benchmarks"].items():
        for strategy in facts["strategies"]:
            mine = np.flatnonzero((names[0] == name) & (names[1] == strategy))
            if not len(mine):
                continue
            baselines = about["baselines"]
            yield Runs(
                benchmark=name,
                strategy=strategy,
                seeds=seeds[mine],
                baselines=baselines and [baselines[str(int(seed) % about["period"])] for seed in seeds[mine]],
                architectures=architectures[mine],
                costs={
                    metric: found[mine, : lengths[mine].max()]
                    for metric, found in costs.items()
                    if not np.isnan(found[mine]).all()
                },
                **{key: column[mine, : lengths[mine].max()] for key, column in columns.items()},
            )


def _by_run(column: NDArray[Any], lengths: NDArray[np.int64], fill: float) -> NDArray[Any]:
    """Return a column with one row a run, ``(runs, longest)``; shorter runs end in ``fill``."""
    made = np.full((len(lengths), lengths.max(initial=0)), fill, dtype=column.dtype)
    made[np.arange(made.shape[1]) < lengths[:, None]] = column
    return made


def _column(table: pa.Table, key: str) -> Floats:
    values: Floats = table[key].to_numpy().astype(np.float64)
    return values
