"""Time one suggestion: ``study.ask`` and the six operations of a NAS-Bench-201 cell, by sampler and study length.

Each sampler continues a study in memory that holds 100, 1,000 or 10,000 distinct trials with their validation
accuracies. Timed are the trials that follow, each told its accuracy before the next. Printed are the median, and the
mean, which shares out the refits of a strategy that proposes in batches; each beside TPE's own. RandomSampler is the
floor: what a study costs without any thought.

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
SLOW = ("optuna GPSampler", "optuna TPESampler")  # timed half as often


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


class Run:
    """A study of one sampler that can be continued by one trial at a time."""

    def __init__(self, benchmark: Benchmark, n: int, sampler: BaseSampler, seed: int):
        self._benchmark, self._seed = benchmark, seed
        self._found = distributions(benchmark.space)
        self._study = study_of(benchmark, n, sampler, seed)
        self.first_ms = self.once()  # reads the whole study

    def once(self) -> float:
        """Ask, suggest and tell one trial; return the milliseconds of asking and suggesting."""
        start = time.perf_counter()
        trial = self._study.ask()
        params = {name: trial.suggest_categorical(name, one.choices) for name, one in self._found.items()}
        took = time.perf_counter() - start
        genotype = self._benchmark.space.from_params([params])
        self._study.tell(trial, float(self._benchmark.labels(genotype, self._benchmark.search, run=self._seed)[0]))
        return 1e3 * took

    def memory(self, trials: int) -> tuple[float, float]:
        """Return what memory grows by, kilobytes a trial, and its peak above the start in megabytes."""
        tracemalloc.start()
        for _ in range(trials):  # what is computed once, such as the encodings of a space, is not growth
            self.once()
        gc.collect()
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(trials):
            self.once()
        gc.collect()
        after, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return (after - before) / trials / 1024, (peak - before) / 2**20


def measure(
    benchmark: Benchmark, makers: dict[str, Callable[[], BaseSampler]], n: int, repeats: int, seed: int
) -> dict[str, dict[str, float]]:
    """Return the figures of each sampler; they take turns, so that a busy moment of the machine hits all alike."""
    runs = {name: Run(benchmark, n, make(), seed) for name, make in makers.items()}
    times: dict[str, list[float]] = {name: [] for name in runs}
    for repeat in range(repeats):
        for name, run in runs.items():
            if name not in SLOW or repeat < repeats // 2:
                times[name].append(run.once())
    rows = {}
    for name, run in runs.items():
        growth, peak = run.memory(20)
        rows[name] = {
            "suggest_ms_first": run.first_ms,
            "suggest_ms_median": float(np.median(times[name])),
            "suggest_ms_mean": float(np.mean(times[name])),
            "memory_growth_kb_per_trial": growth,
            "memory_peak_mb": peak,
        }
    return rows


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
        makers = samplers(strategies, 0)
        if n > GP_LONGEST or options.quick:
            del makers["optuna GPSampler"]
        if n > TPE_LONGEST and options.quick:
            del makers["optuna TPESampler"]
        runs = [measure(benchmark, makers, n, 30 if options.quick else 200, seed) for seed in range(options.seeds)]
        for name in makers:
            medians = {key: float(np.median([run[name][key] for run in runs])) for key in runs[0][name]}
            rows.append({"sampler": name, "trials": n, **medians})
    report(rows)
    options.out.mkdir(parents=True, exist_ok=True)
    versions = {"nasplug": nasplug.__version__, "optuna": optuna.__version__, "numpy": np.__version__}
    hardware = {"machine": platform.machine(), "python": platform.python_version()}
    (options.out / "summary.json").write_text(json.dumps({"rows": rows, "versions": versions, **hardware}, indent=1))


def report(rows: list[dict[str, Any]]) -> None:
    """Print a table a study length, with each sampler's distance to the floor and ratios to TPE."""
    for n in LENGTHS:
        here = {row["sampler"]: row for row in rows if row["trials"] == n}
        floor = here["optuna RandomSampler"]["suggest_ms_median"]
        tpe = here.get("optuna TPESampler")
        print(
            f"\n{n:,} trials".ljust(36), "median ms  of TPE   mean ms  of TPE  above floor  first ms  kB/trial  peak MB"
        )
        for name, row in here.items():
            median, mean = row["suggest_ms_median"], row["suggest_ms_mean"]
            of_median = f"{median / tpe['suggest_ms_median']:.0%}" if tpe else "-"
            of_mean = f"{mean / tpe['suggest_ms_mean']:.0%}" if tpe else "-"
            print(
                f"{name:<36}{median:9.2f}{of_median:>8}{mean:10.2f}{of_mean:>8}{median - floor:13.2f}"
                f"{row['suggest_ms_first']:10.1f}{row['memory_growth_kb_per_trial']:10.1f}{row['memory_peak_mb']:9.2f}"
            )


if __name__ == "__main__":
    main()
