"""Queries until the best cell of NAS-Bench-201 is found, and test accuracy after few queries.

    python benchmarks/reproduce/weaknas_nasbench201.py [--seeds 100] [--jobs 2] [--data DIR] [--out DIR] [--quick]

Three tables, every method in one run:

a. The WeakNAS paper's convention: the mean over training seeds of the 200-epoch validation accuracy is what the search
   sees and what it is to maximise. Built-in tables. ImageNet16-120 took no part in choosing our defaults.
b. 200-epoch test accuracy is objective and target (needs DIR/nasbench201/epochs200.csv.gz).
c. 12-epoch validation accuracy is what the search sees for 100 queries; reported is the 200-epoch test accuracy of the
   cell it likes best (needs DIR/nasbench201/epochs12.csv.gz too).

A miss counts as the cap of 800 queries. Test accuracy in table a is that of the best cell by validation, never the best
test value seen. ``weaknas-paper`` refits a 4 x 1000 network every ten queries, CPU-minutes a run, so it gets
``--paper-seeds`` runs, of table a alone. The paper's own figures are remembered, not checked, and printed for
orientation only.

Finished runs are kept under OUT/cache and not made again while the code they depend on is the same.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from joblib import Memory, Parallel, delayed
from numpy.typing import NDArray

from nasplug import registry
from nasplug.benchmarks import Benchmark, Signal, open_benchmark
from nasplug.benchmarks.environment import code_digest, environment, one_thread
from nasplug.benchmarks.importers import ImportOptions, add
from nasplug.benchmarks.search import search
from nasplug.benchmarks.statistics import incumbents

CAP = 800
SHOWN = (50, 64, 80, 100, 150)
PEERS = ("random", "regularized-evolution", "local-search", "optuna:tpe")
STRATEGIES = ("weaknas", *PEERS)
PAPER = {"nasbench201-cifar10": 182.1, "nasbench201-cifar100": 78.4, "nasbench201-imagenet16-120": 268.4}


@dataclass(frozen=True)
class Task:
    """A table of this script: what is searched, on which benchmark, for how long."""

    part: str
    benchmark: str
    signal: str
    least: int
    cap: int


def one_run(
    name: str, signal_text: str, least: int, cap: int, strategy: str, seed: int, code: str
) -> tuple[int | None, NDArray[np.int64], float]:
    """Return the query that found the optimum (None: missed), the key of the incumbent after each query, seconds.

    A run goes on to ``least`` queries at least, so that accuracy is known there. ``code`` names the sources the
    result depends on, for the cache.
    """
    benchmark = open_benchmark(name)
    signal = Signal.parse(signal_text)
    known = benchmark.architectures()
    assert known is not None
    best = benchmark.labels(known, signal).max()
    built = registry.configure("strategy", strategy, benchmark.space)
    found, values, rows = None, [], []
    started = time.perf_counter()
    with one_thread():
        for step in search(built, benchmark, signal, budget=cap, seed=seed):
            values.append(step.observation.value)
            rows.append(step.observation.genotype)
            if found is None and values[-1] >= best:
                found = step.query
            if found is not None and step.query >= least:
                break
    keys = benchmark.space.keys(np.array(rows))
    return found, keys[incumbents(np.array([values]))[0]], time.perf_counter() - started


def imported(data: Path) -> dict[str, str]:
    """Import the shared NAS-Bench-201 files; return data set -> benchmark name."""
    names = {}
    for dataset in ("cifar10", "cifar100"):
        name = names[dataset] = f"nb201-{dataset}"
        for file, columns in (
            ("epochs12", [f"{dataset}_valid_accuracy=valid@12", f"{dataset}_test_accuracy=test@12"]),
            ("epochs200", [f"{dataset}_test_accuracy=test@200"]),
        ):
            options = ImportOptions(space="nasbench201", arch_column="arch_str", metrics=columns)
            add([data / "nasbench201" / f"{file}.csv.gz"], options, name=name, overwrite=True)
    return names


def accuracy_at(benchmark: Benchmark, signal: Signal, runs: list[Any], queries: int) -> NDArray[np.float64]:
    """Return the label of each run's incumbent after ``queries``, percent; a run that ended has its optimum."""
    keys = np.array([trail[min(queries, len(trail)) - 1] for _, trail, _ in runs])
    space = benchmark.space
    rows = np.searchsorted(space.keys(space.all()), keys)
    return 100 * benchmark.labels(space.all()[rows], signal)


def row(task: Task, strategy: str, runs: list[Any], tests: tuple[Benchmark, Signal] | None) -> dict[str, Any]:
    """Return one line of the tables."""
    queries = np.array([task.cap if found is None else found for found, _, _ in runs], dtype=float)
    line: dict[str, Any] = {
        "part": task.part,
        "benchmark": task.benchmark,
        "strategy": strategy,
        "seeds": len(runs),
        "budget": task.cap,
        "search_signal": task.signal,
        "queries_to_optimum_mean": queries.mean(),
        "queries_to_optimum_se": queries.std(ddof=1) / len(queries) ** 0.5 if len(queries) > 1 else None,
        "queries_to_optimum_median": float(np.median(queries)),
        "queries_to_optimum_max": queries.max(),
        "misses": int(sum(found is None for found, _, _ in runs)),
        "seconds_a_run": float(np.mean([seconds for _, _, seconds in runs])),
    }
    if tests is not None:
        for at in SHOWN:
            if at <= max(task.least, task.cap):
                values = accuracy_at(*tests, runs, at)
                line[f"test_accuracy_pct_at_{at}"] = values.mean()
                line[f"test_accuracy_se_at_{at}"] = values.std() / len(values) ** 0.5
    return line


def show(title: str, lines: list[dict[str, Any]]) -> None:
    """Print one table."""
    print(f"\n{title}")
    shown = [at for at in SHOWN if f"test_accuracy_pct_at_{at}" in lines[0]]
    head = f"{'strategy':<24}{'seeds':>6}{'mean':>8}{'s.e.':>7}{'median':>8}{'max':>6}{'missed':>8}{'s/run':>8}"
    print(head + "".join(f"{f'test@{at}':>10}" for at in shown))
    for line in lines:
        error = line["queries_to_optimum_se"]
        print(
            f"{line['strategy']:<24}{line['seeds']:>6}{line['queries_to_optimum_mean']:>8.1f}"
            f"{error if error is not None else float('nan'):>7.1f}{line['queries_to_optimum_median']:>8.0f}"
            f"{line['queries_to_optimum_max']:>6.0f}{line['misses']:>8}{line['seconds_a_run']:>8.2f}"
            + "".join(f"{line[f'test_accuracy_pct_at_{at}']:>10.3f}" for at in shown)
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--paper-seeds", type=int, default=0, help="runs of weaknas-paper, CPU-minutes each")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--data", type=Path, help="folder that holds nasbench201/, for tables b and c")
    parser.add_argument("--out", type=Path, default=Path("weaknas_nasbench201"))
    parser.add_argument("--quick", action="store_true", help="3 seeds, cap 200: under a minute")
    options = parser.parse_args()
    seeds, cap = (3, 200) if options.quick else (options.seeds, CAP)

    # Tables made here stay out of the person's own data folder.
    os.environ["NASPLUG_DATA"] = str((options.out / "data").resolve())
    names = imported(options.data) if options.data else {}
    tasks = [Task("a", name, "valid@200", max(SHOWN), cap) for name in PAPER]
    tasks += [Task("b", name, "test@200", max(SHOWN), cap) for name in names.values()]
    tasks += [Task("c", name, "valid@12", 100, 100) for name in names.values()]
    tests = {f"nasbench201-{dataset}": name for dataset, name in names.items()} | {n: n for n in names.values()}

    cached = Memory(options.out / "cache", verbose=0).cache(one_run)
    code = f"{environment()['libraries']}{code_digest('nasplug.plugins.optuna.peers')}"
    lines = []
    for task in tasks:
        strategies = [(name, seeds) for name in STRATEGIES]
        if options.paper_seeds and task.part == "a":
            strategies.append(("weaknas-paper", options.paper_seeds))
        jobs = [(name, seed) for name, count in strategies for seed in range(count)]
        what = (task.benchmark, task.signal, task.least, task.cap)
        made = Parallel(n_jobs=options.jobs)(delayed(cached)(*what, name, seed, code) for name, seed in jobs)
        runs: dict[str, list[Any]] = {}
        for (name, _), result in zip(jobs, made, strict=True):
            runs.setdefault(name, []).append(result)
        report = (open_benchmark(tests[task.benchmark]), Signal("test", 200)) if task.benchmark in tests else None
        mine = [row(task, name, results, report) for name, results in runs.items()]
        title = {
            "a": "200-epoch validation accuracy, seeds averaged, is searched and is the target",
            "b": "200-epoch test accuracy is searched and is the target",
            "c": "12-epoch validation accuracy is searched for 100 queries; test@ is after 200 epochs",
        }[task.part]
        show(f"({task.part}) {task.benchmark}: {title}", mine)
        if task.part == "a":
            print(f"orientation, unverified: the paper's WeakNAS {PAPER[task.benchmark]}; random, exact: 7813")
        lines += mine
    options.out.mkdir(parents=True, exist_ok=True)
    summary = {"rows": lines, "cap": cap, "environment": environment()}
    (options.out / "summary.json").write_text(json.dumps(summary, indent=1) + "\n")


if __name__ == "__main__":
    main()
