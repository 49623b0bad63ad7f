"""The comparison: strategies x benchmarks x seeds under one budget.

A run is one strategy on one benchmark with one seed (:func:`nasplug.benchmarks.search.search`). Runs are independent
and each is a function of what names it, so they go to worker processes in any order and the result is the same.
Finished runs are kept, one file each, in a folder named after everything that determines them; a study that is run
again, or grown, computes only what is missing.

Files under the output folder:
    results.parquet: one row an evaluation; identical bytes for the same study, whatever the number of jobs. What an
        architecture costs (:meth:`Benchmark.costs`) stands in columns such as ``cost:params``.
    timings.parquet: how long each suggestion took, with the machine it took it on.
    runs/: finished runs; it can be deleted.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np

from nasplug import registry
from nasplug.benchmarks import statistics
from nasplug.benchmarks.base import Benchmark, Signal
from nasplug.benchmarks.catalog import open_benchmark
from nasplug.benchmarks.engines import Engine, LostError
from nasplug.benchmarks.environment import code_digest, environment, libraries, one_thread
from nasplug.benchmarks.results import Trace, read_trace, save_table, save_trace, tables_of, trace_of
from nasplug.benchmarks.search import Arena, lengths_of, search
from nasplug.errors import InputError
from nasplug.files import write_whole
from nasplug.strategies import Strategy

__all__ = ["Failure", "Landed", "Outcome", "Study", "compare"]

RESUME = "free space or choose another folder with --out; finished runs are kept and the same command resumes"

# -- one run ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Run:
    """Everything that a worker needs, all of it text and numbers."""

    benchmark: str
    checksum: str
    strategy: str
    signal: Signal
    budget: int
    seed: int

    @property
    def label(self) -> str:
        return f"{self.strategy} on {self.benchmark}, seed {self.seed}"


@dataclass(frozen=True)
class Failure:
    """A run that a strategy's error ended; its queries are lost, those of other runs are not."""

    benchmark: str
    strategy: str
    seed: int
    error: str
    details: str = ""

    def __str__(self) -> str:
        return f"{self.strategy} on {self.benchmark}, seed {self.seed}: {self.error}"


@dataclass(frozen=True)
class Landed:
    """A run that is over, and how: its result was there already, it was made now, or an error ended it."""

    benchmark: str
    strategy: str
    seed: int
    how: Literal["reused", "computed", "failed"]


Opener = Callable[[str], Benchmark]


# A worker process serves many runs of a few benchmarks, and strategies cache by space: both are kept. The checksum is
# part of the key, so a table that changed is opened again.
@lru_cache(maxsize=4)
def _opened(opener: Opener, name: str, checksum: str) -> Benchmark:
    return opener(name)


@lru_cache(maxsize=4)
def _configured(opener: Opener, name: str, checksum: str, strategy: str) -> Strategy:
    built: Strategy = registry.configure("strategy", strategy, _opened(opener, name, checksum).space)
    return built


def _execute(opener: Opener, run: _Run) -> Trace | Failure:
    """Make one run; an error of the strategy is a result, not an error."""
    try:
        with one_thread():
            benchmark = _opened(opener, run.benchmark, run.checksum)
            strategy = _configured(opener, run.benchmark, run.checksum, run.strategy)
            steps = list(search(strategy, benchmark, run.signal, budget=run.budget, seed=run.seed))
    except Exception as error:
        # Reported with the run's name, the traceback written beside where the run would be; the other runs go on.
        lines = traceback.format_exception_only(error)
        return Failure(run.benchmark, run.strategy, run.seed, " ".join(lines[-1].split()), traceback.format_exc())
    return trace_of(steps, benchmark.space.n_sites)


# -- the study -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Study:
    """What to compare.

    Attributes:
        benchmarks: names that :func:`open_benchmark` knows.
        strategies: strategies with their options, such as ``weaknas:batch=10``.
        seeds: runs a strategy and benchmark; run i has the seed ``seed + i``, the same for every strategy.
        budget: queries a run; of a strategy that stops trainings early, what as many average evaluations cost.
        seed: the first seed.
        search: signal that searches see, None for each benchmark's own.
        report: signal that is reported, None for each benchmark's own.

    Raises: InputError for something named twice, nothing to do, or a negative seed.
    """

    benchmarks: Sequence[str]
    strategies: Sequence[str]
    seeds: int = 20
    budget: int = 100
    seed: int = 0
    search: Signal | None = None
    report: Signal | None = None

    def __post_init__(self) -> None:
        for what, names in (("benchmark", self.benchmarks), ("strategy", self.strategies)):
            if not names:
                raise InputError(f"a comparison needs at least one {what}")
            if doubled := sorted({name for name in names if list(names).count(name) > 1}):
                raise InputError(f"{what} {doubled[0]!r} is given twice")
        if self.seeds < 1 or self.budget < 1:
            raise InputError(f"expected at least 1 seed and 1 query, got seeds={self.seeds}, budget={self.budget}")
        if self.seed < 0:
            raise InputError(f"a seed is at least 0, got {self.seed}")


@dataclass(frozen=True)
class Outcome:
    """What :func:`compare` did: runs made now, runs found finished, runs lost to errors."""

    computed: int
    reused: int
    failures: tuple[Failure, ...]


def compare(
    study: Study,
    out: Path,
    *,
    jobs: int = 1,
    backend: str = "loky",
    scheduler: str | None = None,
    opener: Opener = open_benchmark,
    command: str = "",
    progress: Callable[[Landed], None] = lambda landed: None,
) -> Outcome:
    """Make every run of a study that is not finished yet, and write ``results.parquet`` and ``timings.parquet``.

    Args:
        study: what to compare.
        out: folder for the results; runs found there that belong to the study are not made again.
        jobs, backend, scheduler: where runs are made, see :class:`nasplug.benchmarks.engines.Engine`.
        opener: opens a benchmark by name, in every worker.
        command: the command line, for the report.
        progress: called with every run when it is found finished, then whenever one ends.

    Raises:
        UnknownNameError, MissingDependencyError: a benchmark, strategy, option or signal that cannot be had.
        InputError: a budget larger than the benchmark; a strategy that stops trainings early on one without curves;
            an engine that is not there.
        DataError: the folder cannot be written; finished runs stay where they are.
    """
    engine = Engine(backend, jobs, scheduler)
    started = time.perf_counter()
    arenas = {
        name: Arena.of(opener(name), budget=study.budget, search=study.search, report=study.report)
        for name in study.benchmarks
    }
    identities = {
        (name, spec): _identity(arena, name, spec, study.budget)
        for name, arena in arenas.items()
        for spec in study.strategies
    }
    folders = {key: out / "runs" / _folder(*key, identity) for key, identity in identities.items()}
    for key, folder in folders.items():
        text = json.dumps(identities[key], indent=1, sort_keys=True)
        write_whole(folder / "identity.json", partial(_save_text, text), remedy=RESUME)

    plan = [
        _Run(name, arenas[name].checksum, spec, arenas[name].search, study.budget, study.seed + i)
        for name, spec in folders
        for i in range(study.seeds)
    ]
    paths = {run: folders[run.benchmark, run.strategy] / f"seed-{run.seed}.npy" for run in plan}
    traces: dict[_Run, Trace] = {}
    for run in plan:
        kept = read_trace(paths[run], arenas[run.benchmark].benchmark.space.n_sites, study.budget)
        if kept is not None:
            traces[run] = kept
            progress(Landed(run.benchmark, run.strategy, run.seed, "reused"))
    reused = len(traces)
    failures: dict[_Run, Failure] = {}
    missing = [run for run in plan if run not in traces]
    for run, result in engine.spread(partial(_execute, opener), missing):
        if isinstance(result, LostError):
            result = Failure(run.benchmark, run.strategy, run.seed, str(result), str(result))
        if isinstance(result, Failure):
            failures[run] = result
            write_whole(paths[run].with_suffix(".error.txt"), partial(_save_text, result.details), remedy=RESUME)
        else:
            write_whole(paths[run], partial(save_trace, result), remedy=RESUME)
            traces[run] = result
        progress(Landed(run.benchmark, run.strategy, run.seed, "computed" if run in traces else "failed"))

    # In the order of the plan, not of arrival.
    lost = tuple(failures[run] for run in plan if run in failures)
    facts = {
        "nasplug": version("nasplug"),
        "seed": study.seed,
        "seeds": study.seeds,
        "budget": study.budget,
        "strategies": list(study.strategies),
        "benchmarks": {name: _facts(arena, study) for name, arena in arenas.items()},
        "trains": _trained_here(arenas, study.strategies),
        "failures": [
            {"benchmark": f.benchmark, "strategy": f.strategy, "seed": f.seed, "error": f.error} for f in lost
        ],
    }
    done = [(run.benchmark, run.strategy, run.seed, traces[run]) for run in plan if run in traces]
    early = any(identity["lengths"] for identity in identities.values())
    results, timings = tables_of(done, arenas, early=early)
    outcome = Outcome(len(plan) - reused - len(lost), reused, lost)
    machine = environment() | {
        "command": command,
        "jobs": jobs,
        "backend": backend,
        "cluster": scheduler is not None,
        "runs_computed": outcome.computed,
        "wall_s": round(time.perf_counter() - started, 3),
    }
    write_whole(out / "timings.parquet", partial(save_table, timings, machine), remedy=RESUME)
    write_whole(out / "results.parquet", partial(save_table, results, facts), remedy=RESUME)
    return outcome


def _facts(arena: Arena, study: Study) -> dict[str, Any]:
    """Return what a report must know of a benchmark: provenance, and exact baselines by the training seed of a run."""
    benchmark = arena.benchmark
    facts: dict[str, Any] = {
        "space": benchmark.space.name,
        "space_size": benchmark.space.size,
        "search_signal": str(arena.search),
        "report_signal": str(arena.report),
        "notes": list(benchmark.notes),
        "provenance": benchmark.provenance(),
        "rows": None,
        "period": None,
        "baselines": None,
        "fronts": {},
    }
    held = benchmark.architectures()
    if held is None:
        return facts
    period = math.lcm(*(_period(benchmark, signal) for signal in (arena.search, arena.report)))
    baselines, reports = {}, []
    for shown in sorted({(study.seed + i) % period for i in range(study.seeds)}):
        searched = benchmark.labels(held, arena.search, shown)
        report = benchmark.labels(held, arena.report, shown)
        expected = statistics.best_of_random(searched, report, statistics.query_grid(study.budget)).tolist()
        baselines[str(shown)] = {
            "random_mean": float(report.mean()),
            "random_std": float(report.std()),
            "random_median": float(np.median(report)),
            "report_best": float(report.max()),
            "search_best": float(searched.max()),
            "random_search": expected,
            "random_search_final": expected[-1],
        }
        reports.append(report)
    report = np.mean(reports, axis=0)
    fronts = {}
    for metric in benchmark.costs():
        costs = benchmark.query(held, metric)
        best = statistics.pareto_front(costs, report)
        fronts[metric] = np.stack([costs[best], report[best]], axis=1).tolist()
    return facts | {"rows": len(held), "period": period, "baselines": baselines, "fronts": fronts}


def _trained_here(arenas: Mapping[str, Arena], strategies: Sequence[str]) -> list[str]:
    """Return the benchmarks and strategies that train networks while they are compared."""
    found = [name for name, arena in arenas.items() if arena.benchmark.trains]
    space = next(iter(arenas.values())).benchmark.space
    return found + [spec for spec in strategies if registry.configure("strategy", spec, space).trains]


def _period(benchmark: Benchmark, signal: Signal) -> int:
    """Return after how many runs the training seed that a signal shows repeats."""
    return 1 if signal.seeds == "mean" else benchmark.n_seeds(signal.metric, signal.epochs)


# -- what determines a run -------------------------------------------------------------------------------------------


def _identity(arena: Arena, name: str, strategy: str, budget: int) -> dict[str, Any]:
    """Return everything but the seed that determines a run.

    The budget does not, it only says where a run stops; unless it can stop in the middle of a training.
    """
    configured: Strategy = registry.configure("strategy", strategy, arena.benchmark.space)
    lengths = lengths_of(configured, arena.benchmark, arena.search)
    return {
        "lengths": lengths,
        "budget": budget if lengths else None,
        "continues": arena.benchmark.continues if lengths else None,
        "benchmark": name,
        "checksum": arena.checksum,
        "search_signal": str(arena.search),
        "strategy": strategy,
        "configuration": repr(configured),
        "inputs": configured.inputs,
        "nasplug": version("nasplug"),
        "code": code_digest(type(configured).__module__, type(arena.benchmark.space).__module__),
        "libraries": libraries(),
    }


def _folder(name: str, strategy: str, identity: Mapping[str, Any]) -> str:
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:12]
    readable = re.sub(r"[^A-Za-z0-9.=-]+", "_", f"{Path(name).name}--{strategy}")[:80]
    return f"{readable}--{digest}"


def _save_text(text: str, path: Path) -> None:
    path.write_text(text, encoding="utf-8")
