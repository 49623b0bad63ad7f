"""The comparison: strategies x benchmarks x seeds under one budget, in one loop.

A run is one strategy on one benchmark with one seed. A strategy that stops trainings early spends a budget of
evaluations by the instalment (:class:`nasplug.benchmarks.meter.Meter`): it starts more trainings, in as many seconds
as that number of average evaluations takes. Runs are independent and each is a function of what names it, so
they go to worker processes in any order and the result is the same. Finished runs are kept, one file each, in a folder
named after everything that determines them; a study that is run again, or grown, computes only what is missing.

Files under the output folder:
    results.parquet: one row an evaluation; identical bytes for the same study, whatever the number of jobs. What an
        architecture costs (:meth:`Benchmark.costs`) stands in columns such as ``cost:params``.
    timings.parquet: how long each suggestion took, with the machine it took it on.
    runs/: finished runs; it can be deleted.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import json
import math
import os
import platform
import re
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, lru_cache, partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from nasplug import registry
from nasplug.benchmarks import statistics
from nasplug.benchmarks.base import Benchmark, Signal, higher_is_better
from nasplug.benchmarks.catalog import open_benchmark
from nasplug.benchmarks.engines import Engine, LostError
from nasplug.benchmarks.meter import Meter
from nasplug.errors import InputError
from nasplug.files import write_whole
from nasplug.spaces import Genotypes
from nasplug.strategies import History, Observation, Status, Strategy, trial_rng

__all__ = [
    "COST",
    "META_KEY",
    "Arena",
    "Failure",
    "Landed",
    "Outcome",
    "Step",
    "Study",
    "code_digest",
    "compare",
    "environment",
    "one_thread",
    "search",
]

META_KEY = b"nasplug"
COST = "cost:"
"""What the columns of ``results.parquet`` that hold a cost of the architecture begin with."""
RESUME = "free space or choose another folder with --out; finished runs are kept and the same command resumes"
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
LIBRARIES = ("numpy", "scipy", "scikit-learn", "pandas", "pyarrow", "joblib", "optuna", "nni", "torch")

Trace = NDArray[np.void]
"""A run as a structured array, one row a query: genotype, value, cost_s, status, suggest_ms, epochs, spent.

Epochs are 0 where a training length means nothing; ``spent`` is how much of the budget is, after the query.
"""


# -- one run ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Step:
    """One query of a run: its number from 1, what was learnt, the budget spent by then, how long the proposal took."""

    query: int
    observation: Observation
    spent: float
    suggest_s: float


def search(strategy: Strategy, benchmark: Benchmark, signal: Signal, *, budget: int, seed: int) -> Iterator[Step]:
    """Run one search and yield its queries: one proposal, one label bought, ``budget`` times.

    A strategy that stops trainings early looks at the signal's metric at every length up to the signal's; its queries
    are the trainings that it starts, as many as the budget pays for.

    Proposal ``t`` (from 0) draws from ``trial_rng(seed, t)``; ``seed`` also picks the training seed that a ``:one``
    signal shows. The strategy sees the history alone and is not told the budget, so a run of 100 queries begins with
    the run of 50 (but for the training that the end of its budget cuts off).

    Raises: InputError where the strategy proposes what its space does not hold, or stops trainings early and the
        benchmark has one training length.
    """
    lengths = _lengths(strategy, benchmark, signal)
    meter = Meter(benchmark, signal, budget, seed, lengths)
    history = History.empty(strategy.space, fidelities=lengths)
    number = 0
    while meter.spent < budget:
        started = time.perf_counter()
        proposed = strategy.propose(history, 1, trial_rng(seed, number))
        suggest_s = time.perf_counter() - started
        rows = strategy.space.check(proposed)
        if len(rows) != 1:
            raise InputError(f"{type(strategy).__name__} was asked for 1 proposal and made {len(rows)}")
        observation = meter.buy(rows[0], partial(_stops, strategy, history, rows))
        curve = np.array([observation.curve])
        history = history.extended(rows, np.array([observation.value]), observation.status, curves=curve)
        number += 1
        yield Step(number, observation, meter.spent, suggest_s)


def _lengths(strategy: Strategy, benchmark: Benchmark, signal: Signal) -> tuple[int, ...]:
    """Return the training lengths at which a strategy looks, none if it sees whole evaluations only."""
    if not strategy.stops_early:
        return ()
    held = benchmark.fidelities(signal.metric)
    lengths = tuple(epochs for epochs in held if signal.epochs is None or epochs <= signal.epochs)
    if len(lengths) < 2:
        raise InputError(
            f"{benchmark.name} shows {signal.metric} of one training length and the strategy stops trainings early; "
            "take a benchmark with curves, such as digits201, or a strategy without a pruner"
        )
    return lengths


def _stops(strategy: Strategy, history: History, rows: Genotypes, curve: NDArray[np.float64]) -> bool:
    """Return whether a strategy stops the training of a proposal ``(1, s)`` that is not in the history yet."""
    training = history.extended(rows, np.array([math.nan]), Status.RUNNING, curves=curve[None])
    return strategy.stops(training, len(history))


@contextmanager
def one_thread() -> Iterator[None]:
    """Hold BLAS and OpenMP to one thread, so that arithmetic does not depend on how many runs go on beside it.

    Loaded libraries are told; those that a strategy loads later read the environment.
    """
    outside = {name: os.environ.get(name) for name in _THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(_THREAD_VARIABLES, "1"))
    try:
        with _thread_pools(len(sys.modules)).limit(limits=1):
            yield
    finally:
        for name, value in outside.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@lru_cache(maxsize=1)
def _thread_pools(modules: int) -> Any:
    """Return the loaded BLAS and OpenMP libraries; looked for again, 4 ms, whenever modules were imported."""
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


def _trace_type(n_sites: int) -> np.dtype[np.void]:
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
    rows = [
        (o.genotype, o.value, o.cost_s, o.status, 1e3 * step.suggest_s, o.epochs or 0, step.spent)
        for step in steps
        for o in [step.observation]
    ]
    return np.array(rows, dtype=_trace_type(benchmark.space.n_sites))


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


@dataclass(frozen=True)
class Arena:
    """A benchmark with the signal that searches see and the one that is reported."""

    benchmark: Benchmark
    search: Signal
    report: Signal

    @classmethod
    def of(
        cls, benchmark: Benchmark, *, budget: int, search: Signal | None = None, report: Signal | None = None
    ) -> Arena:
        """Return the arena, with the benchmark's own signals where none are given.

        Raises:
            InputError: a budget larger than the benchmark, or a signal of which less is better.
            UnknownNameError, DataError: a signal that the benchmark does not hold.
        """
        arena = cls(benchmark, search or benchmark.search, report or benchmark.report)
        for signal in (arena.search, arena.report):
            if not higher_is_better(signal.metric):
                raise InputError(
                    f"{signal} is a cost and a search maximises; name an accuracy, such as {benchmark.search}"
                )
        held = benchmark.architectures()
        size = benchmark.space.size if held is None else len(held)
        if budget > size:
            raise InputError(
                f"a budget of {budget} queries is more than the {size} architectures of {benchmark.name!r}; "
                f"take --budget {size} or less"
            )
        if held is not None:
            for signal in (arena.search, arena.report):
                benchmark.labels(held[:1], signal)
        return arena

    @property
    def checksum(self) -> str:
        """The table's checksum, empty where the benchmark has none."""
        return str(self.benchmark.provenance().get("checksum", ""))


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
        kept = _read_trace(paths[run], arenas[run.benchmark].benchmark.space.n_sites, study.budget)
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
            write_whole(paths[run], partial(_save, result), remedy=RESUME)
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
    done = [(run, traces[run]) for run in plan if run in traces]
    early = any(identity["lengths"] for identity in identities.values())
    schema = _EARLY_RESULTS if early else _RESULTS
    for metric in sorted({metric for arena in arenas.values() for metric in arena.benchmark.costs()}):
        schema = schema.append(pa.field(f"{COST}{metric}", pa.float64()))
    results, timings = _tables(done, arenas, schema)
    outcome = Outcome(len(plan) - reused - len(lost), reused, lost)
    machine = environment() | {
        "command": command,
        "jobs": jobs,
        "backend": backend,
        "cluster": scheduler is not None,
        "runs_computed": outcome.computed,
        "wall_s": round(time.perf_counter() - started, 3),
    }
    write_whole(out / "timings.parquet", lambda path: _save_parquet(path, timings, machine), remedy=RESUME)
    write_whole(out / "results.parquet", lambda path: _save_parquet(path, results, facts), remedy=RESUME)
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


def environment() -> dict[str, Any]:
    """Return versions and hardware, JSON-ready."""
    return {
        "nasplug": version("nasplug"),
        "python": platform.python_version(),
        "libraries": _libraries(),
        "platform": platform.platform(),
        "machine": platform.machine(),
        "processor": _processor(),
        "cpu_count": os.cpu_count(),
        "memory_gib": _memory_gib(),
    }


def _processor() -> str | None:
    """Return what the processor calls itself, None where the system does not tell."""
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text("utf-8"), re.MULTILINE)
    except OSError:
        found = None
    return found[1].strip() if found else platform.processor() or None


def _memory_gib() -> float | None:
    """Return the machine's memory, None where the system does not tell."""
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (AttributeError, ValueError, OSError):
        return None


def _libraries() -> dict[str, str]:
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _identity(arena: Arena, name: str, strategy: str, budget: int) -> dict[str, Any]:
    """Return everything but the seed that determines a run.

    The budget does not, it only says where a run stops; unless it can stop in the middle of a training.
    """
    configured: Strategy = registry.configure("strategy", strategy, arena.benchmark.space)
    lengths = _lengths(configured, arena.benchmark, arena.search)
    return {
        "lengths": lengths,
        "budget": budget if lengths else None,
        "continues": arena.benchmark.continues if lengths else None,
        "benchmark": name,
        "checksum": arena.checksum,
        "search_signal": str(arena.search),
        "strategy": strategy,
        "configuration": repr(configured),
        "nasplug": version("nasplug"),
        "code": code_digest(type(configured).__module__, type(arena.benchmark.space).__module__),
        "libraries": _libraries(),
    }


@cache
def code_digest(*modules: str) -> str:
    """Return a digest of the sources a run executes: spaces, strategies, labels, this loop, and those of ``modules``.

    Of a module of ours that is its folder, of another one its whole package: a strategy may stand on several files.
    """
    loop = (__name__, Meter.__module__, Benchmark.__module__, "nasplug.benchmarks.table")
    files = {Path(inspect.getfile(importlib.import_module(one))) for one in loop}
    for module in modules:
        file, package = Path(inspect.getfile(importlib.import_module(module))), module.partition(".")[0]
        if package == __name__.partition(".")[0]:
            files |= set(file.parent.glob("*.py"))
        elif paths := getattr(importlib.import_module(package), "__path__", None):
            files |= {one for path in paths for one in Path(path).rglob("*.py")}
        else:
            files.add(file)
    for package in ("nasplug.spaces", "nasplug.strategies"):
        files |= set(Path(inspect.getfile(importlib.import_module(package))).parent.rglob("*.py"))
    digests = sorted(hashlib.sha256(path.read_bytes()).digest() for path in files)
    return hashlib.sha256(b"".join(digests)).hexdigest()[:16]


def _folder(name: str, strategy: str, identity: Mapping[str, Any]) -> str:
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:12]
    readable = re.sub(r"[^A-Za-z0-9.=-]+", "_", f"{Path(name).name}--{strategy}")[:80]
    return f"{readable}--{digest}"


# -- files -----------------------------------------------------------------------------------------------------------


def _save_text(text: str, path: Path) -> None:
    path.write_text(text, encoding="utf-8")


def _save(trace: Trace, path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, trace, allow_pickle=False)


def _save_parquet(path: Path, table: pa.Table, meta: Mapping[str, Any]) -> None:
    text = json.dumps(meta)
    with path.open("wb") as file:
        pq.write_table(table.replace_schema_metadata({META_KEY: text.encode()}), file, compression="zstd")
        file.flush()
        os.fsync(file.fileno())


def _read_trace(path: Path, n_sites: int, budget: int) -> Trace | None:
    """Return what a finished run did with a budget, or None where it is missing, shorter or damaged."""
    try:
        trace: Trace = np.load(path, allow_pickle=False)
    except Exception:  # a damaged file raises nearly anything; it is made again
        return None
    if trace.dtype != _trace_type(n_sites) or trace.ndim != 1 or not (trace["spent"] >= budget).any():
        return None
    return trace[trace["spent"] <= budget]


def _tables(
    done: Sequence[tuple[_Run, Trace]], arenas: Mapping[str, Arena], schema: pa.Schema
) -> tuple[pa.Table, pa.Table]:
    """Return (results, timings), rows in the order of the runs given; report labels are looked up here, afterwards."""
    results: dict[str, list[Any]] = {key: [] for key in dict.fromkeys([*_EARLY_RESULTS.names, *schema.names])}
    for run, trace in done:
        arena = arenas[run.benchmark]
        genotypes = trace["genotype"]
        results["benchmark"].append(np.full(len(trace), run.benchmark, dtype=object))
        results["strategy"].append(np.full(len(trace), run.strategy, dtype=object))
        results["seed"].append(np.full(len(trace), run.seed))
        results["query"].append(np.arange(1, len(trace) + 1))
        results["architecture"].append(np.array(arena.benchmark.space.to_string(genotypes), dtype=object))
        results["value"].append(trace["value"])
        finished = trace["status"] == Status.OK
        report_label = partial(arena.benchmark.labels, signal=arena.report, run=run.seed)
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
    suggest_ms = np.concatenate([trace["suggest_ms"] for _, trace in done]) if done else np.empty(0)
    timings = table.select(["benchmark", "strategy", "seed", "query"])
    return table, timings.append_column("suggest_ms", pa.array(suggest_ms, pa.float64()))


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


def _where(
    finished: NDArray[np.bool_], genotypes: Genotypes, ask: Callable[[Genotypes], NDArray[np.float64]]
) -> NDArray[np.float64]:
    """Return what ``ask`` answers for the evaluations that finished, ``(n,)``, NaN for the others."""
    answers = np.full(len(genotypes), math.nan)
    if finished.any():
        answers[finished] = ask(genotypes[finished])
    return answers
