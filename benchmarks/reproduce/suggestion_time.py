"""Time one suggestion: ``study.ask`` and the six operations of a NAS-Bench-201 cell, by sampler and study length.

Each sampler continues a study in memory that holds 100, 1,000 or 10,000 distinct trials with their validation
accuracies. Timed are the trials that follow, each told its accuracy before the next, so a strategy that refits once a
batch is charged its share; printed is the median, with the mean beside it. RandomSampler is the floor: what a study
costs without any thought.

Bounds: at most half of TPE at 100 trials, a quarter at 1,000, below 50 ms at 10,000, and flat memory.
"""

from __future__ import annotations

import argparse
import gc
import json
import platform
import time
import tracemalloc
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.samplers import BaseSampler

import nasplug
from nasplug.benchmarks.base import Benchmark
from nasplug.plugins.optuna import NasSampler, distributions
from nasplug.registry import configure

LENGTHS = (100, 1_000, 10_000)
GP_LONGEST = 100  # beyond, one suggestion of GPSampler takes seconds
TPE_LONGEST = 1_000


def samplers(strategies: list[str], seed: int) -> dict[str, Callable[[], BaseSampler]]:
    """Return name -> maker, peers last."""
    inferred = {name: partial(NasSampler, name, seed=seed) for name in strategies}
    given = {f"{name} (space given)": partial(NasSampler, name, space="nasbench201", seed=seed) for name in strategies}
    return (
        inferred
        | given
        | {
            "optuna RandomSampler": lambda: optuna.samplers.RandomSampler(seed=seed),
            "optuna TPESampler": lambda: optuna.samplers.TPESampler(seed=seed),
            "optuna NSGAIISampler": lambda: optuna.samplers.NSGAIISampler(seed=seed),
            "optuna GPSampler": lambda: optuna.samplers.GPSampler(seed=seed),
        }
    )


def study_of(benchmark: Benchmark, n: int, sampler: BaseSampler, seed: int) -> optuna.Study:
    """Return a study in memory that holds ``n`` distinct finished trials."""
    space = benchmark.space
    genotypes = space.sample_distinct(n, np.random.default_rng([seed, n]))
    values = benchmark.labels(genotypes, benchmark.search, run=seed)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    found = distributions(space)
    study.add_trials(
        [
            optuna.create_trial(params=params, distributions=found, value=float(value))
            for params, value in zip(space.to_params(genotypes), values, strict=True)
        ]
    )
    return study


def measure(benchmark: Benchmark, make: Callable[[], BaseSampler], n: int, repeats: int, seed: int) -> dict[str, Any]:
    """Return milliseconds a suggestion, and what memory grew by in kilobytes a trial."""
    space, found = benchmark.space, distributions(benchmark.space)
    study = study_of(benchmark, n, make(), seed)

    def once() -> float:
        start = time.perf_counter()
        trial = study.ask()
        params = {name: trial.suggest_categorical(name, one.choices) for name, one in found.items()}
        took = time.perf_counter() - start
        study.tell(trial, float(benchmark.labels(space.from_params([params]), benchmark.search, run=seed)[0]))
        return 1e3 * took

    first = once()  # reads the whole study, once
    times = [once() for _ in range(repeats)]
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    traced = max(5, repeats // 4)
    for _ in range(traced):
        once()
    gc.collect()
    grown, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return {
        "suggest_ms_first": first,
        "suggest_ms_median": float(np.median(times)),
        "suggest_ms_mean": float(np.mean(times)),
        "memory_growth_kb_per_trial": (grown - before) / traced / 1024,
        "memory_peak_mb": (peak - before) / 2**20,
    }


def main() -> None:
    """Measure, print the table and write ``summary.json``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--strategies", default="random,weaknas", help="ours, separated by commas (options by ;)")
    parser.add_argument("--seeds", type=int, default=1, help="repetitions with other trials; the median is over all")
    parser.add_argument("--jobs", type=int, default=1, help="accepted for uniformity; timings run alone")
    parser.add_argument("--data", help="accepted for uniformity; the table is built in")
    parser.add_argument("--out", type=Path, default=Path("suggestion_time"))
    parser.add_argument("--quick", action="store_true", help="fewer repeats, without GPSampler")
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)

    benchmark: Benchmark = configure("benchmark", "nasbench201-cifar10")
    strategies = [name.replace(";", ",") for name in options.strategies.split(",")]
    rows = []
    for n in LENGTHS:
        for name, make_seeded in samplers(strategies, 0).items():
            if (name == "optuna GPSampler" and (n > GP_LONGEST or options.quick)) or (
                name == "optuna TPESampler" and n > TPE_LONGEST and options.quick
            ):
                continue
            slow = name in ("optuna GPSampler", "optuna TPESampler")
            repeats = (10 if slow else 30) if options.quick else (20 if slow else 100)
            runs = [measure(benchmark, make_seeded, n, repeats, seed) for seed in range(options.seeds)]
            medians = {key: float(np.median([one[key] for one in runs])) for key in runs[0]}
            rows.append({"sampler": name, "trials": n, **medians})
    report(rows)
    options.out.mkdir(parents=True, exist_ok=True)
    versions = {"nasplug": nasplug.__version__, "optuna": optuna.__version__, "numpy": np.__version__}
    hardware = {"machine": platform.machine(), "python": platform.python_version()}
    (options.out / "summary.json").write_text(json.dumps({"rows": rows, "versions": versions, **hardware}, indent=1))


def report(rows: list[dict[str, Any]]) -> None:
    """Print a table a study length, with each sampler's distance to the floor and ratio to TPE."""
    for n in LENGTHS:
        here = {row["sampler"]: row for row in rows if row["trials"] == n}
        floor = here["optuna RandomSampler"]["suggest_ms_median"]
        tpe = here.get("optuna TPESampler", {}).get("suggest_ms_median", float("nan"))
        print(f"\n{n:,} trials    median ms   mean ms   first ms   above floor   of TPE   kB/trial   peak MB")
        for name, row in here.items():
            median = row["suggest_ms_median"]
            print(
                f"{name:<24}{median:9.2f}{row['suggest_ms_mean']:10.2f}{row['suggest_ms_first']:11.1f}"
                f"{median - floor:11.2f} ms{median / tpe:8.0%}"
                f"{row['memory_growth_kb_per_trial']:11.1f}{row['memory_peak_mb']:10.2f}"
            )


if __name__ == "__main__":
    main()
