import json
import math
from types import SimpleNamespace

import pyarrow.parquet as pq

from nasplug.benchmarks.base import Signal
from nasplug.benchmarks.catalog import open_benchmark
from nasplug.benchmarks.results import META_KEY, read_trace, save_table, save_trace, tables_of, trace_of
from nasplug.benchmarks.search import Arena, Step
from nasplug.strategies import Status


def steps_of(benchmark, statuses):
    """Steps on the first architectures; what did not finish has no value."""
    for number, (row, status) in enumerate(zip(benchmark.architectures(), statuses, strict=False), 1):
        value = 0.5 if status == Status.OK else math.nan
        yield Step(
            number, SimpleNamespace(genotype=row, value=value, cost_s=2.0, status=status, epochs=None), number, 0.25
        )


def test_a_trace_is_read_as_far_as_the_budget_goes(small_table, tmp_path):
    benchmark = open_benchmark(str(small_table))
    trace = trace_of(list(steps_of(benchmark, [Status.OK] * 5)), benchmark.space.n_sites)
    path = tmp_path / "run.npy"
    save_trace(trace, path)
    assert (read_trace(path, benchmark.space.n_sites, 5) == trace).all()
    assert len(read_trace(path, benchmark.space.n_sites, 3)) == 3
    assert read_trace(path, benchmark.space.n_sites, 6) is None
    assert read_trace(path, benchmark.space.n_sites + 1, 5) is None
    assert read_trace(tmp_path / "none.npy", benchmark.space.n_sites, 5) is None


def test_tables_name_every_status_and_report_only_what_finished(small_table, tmp_path):
    benchmark = open_benchmark(str(small_table))
    arena = Arena.of(benchmark, budget=5, report=Signal("test", 200))
    statuses = list(Status)
    trace = trace_of(list(steps_of(benchmark, statuses)), benchmark.space.n_sites)
    runs = [(benchmark.name, "random", 7, trace)]
    results, timings = tables_of(runs, {benchmark.name: arena}, early=False)
    assert results["status"].to_pylist() == [status.name.lower() for status in statuses]
    assert "epochs" not in results.column_names
    assert {"epochs", "spent"} <= set(tables_of(runs, {benchmark.name: arena}, early=True)[0].column_names)
    told = [value is not None for value in results["report_value"].to_pylist()]
    assert told == [status == Status.OK for status in statuses]
    assert timings["suggest_ms"].to_pylist() == [250.0] * len(statuses)
    assert set(timings["seed"].to_pylist()) == {7}

    save_table(results, {"a": 1}, tmp_path / "results.parquet")
    read = pq.read_table(tmp_path / "results.parquet")
    assert json.loads(read.schema.metadata[META_KEY]) == {"a": 1}
    assert read.equals(results)


def test_no_run_is_two_empty_tables(small_table):
    benchmark = open_benchmark(str(small_table))
    results, timings = tables_of([], {benchmark.name: Arena.of(benchmark, budget=5)}, early=False)
    assert (len(results), len(timings)) == (0, 0)
