"""Accuracy against latency: the hypervolume that searches with two objectives reach, and a picture of their fronts.

    python benchmarks/reproduce/latency_pareto.py [--seeds 10] [--jobs 2] [--out DIR] [--quick]

A query buys a validation label and looks up the table's latency. ``weaknas``, ``optuna:nsga2`` and ``optuna:tpe``
(default settings) see both and maximise the one, minimise the other; ``random`` needs neither. Strategies that know one
objective are used as a person would use them: a quarter of the queries under each of four latency budgets, the 12.5,
25, 37.5 and 50 % quantiles of the table ("4 budgets"); so is ``weaknas`` once more. Their latencies are known
beforehand, those of the others when bought.

The hypervolume is the area between the table's median accuracy and median latency and what was bought, as a share of
that of the exact front of the table, in percent; mean and s.d. over seeds. "Reported" is the same with labels of
training seeds (graph tables: the test split) that the search did not see, for the architectures that are not dominated
in what it saw; chance favours the exact front of such labels, so 100 is out of reach.

Defaults of ``weaknas`` were chosen on CIFAR-10 and CIFAR-100 with one objective; nothing was chosen here.
OUT/pareto.html shows the front that the median run of each strategy found, among the runs with the first training seed.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from joblib import Parallel, delayed
from numpy.typing import NDArray

from nasplug import registry
from nasplug.benchmarks import open_benchmark
from nasplug.benchmarks.base import Benchmark
from nasplug.benchmarks.cost import KnownCost
from nasplug.benchmarks.environment import environment, one_thread
from nasplug.cost_models.constraint import affordable
from nasplug.spaces import Genotypes
from nasplug.strategies import History, trial_rng
from nasplug.strategies.pareto import fronts

TABLES = ("nasbench201-cifar10", "nasbench201-imagenet16-120", "nasbench-graph-arxiv")
QUERIES = (20, 50, 100)
BOTH = ("random", "optuna:nsga2", "optuna:tpe", "weaknas")
ONE = ("regularized-evolution", "local-search", "weaknas")
QUANTILES = (0.125, 0.25, 0.375, 0.5)
LATENCY = "latency_ms"

Floats = NDArray[np.float64]


def staircase(points: Floats) -> Floats:
    """Return the points ``(f, 2)`` (accuracy, minus latency) that no other beats in both, by rising latency."""
    front = np.unique(points[next(fronts(points))], axis=0)
    return front[np.argsort(-front[:, 1])]


def hypervolume(points: Floats, reference: Floats) -> float:
    """Return the area between points ``(n, 2)``, higher is better, and a reference ``(2,)`` that they should beat."""
    inside = points[(points > reference).all(axis=1)]
    if not len(inside):
        return 0.0
    front = staircase(inside)
    heights = np.diff(front[:, 0], prepend=reference[0])
    return float(heights @ (front[:, 1] - reference[1]))


@dataclass(frozen=True)
class Arena:
    """A table with both objectives, and what is to be reached there."""

    benchmark: Benchmark
    reference: Floats
    shown: Floats
    """Hypervolume of the exact front by the training seed of a run, ``(k,)``."""
    reported: Floats

    def points(self, rows: Genotypes, seed: int, report: bool = False) -> Floats:
        """Return (accuracy, minus latency) of architectures, ``(n, 2)``."""
        signal = self.benchmark.report if report else self.benchmark.search
        return np.column_stack([self.benchmark.labels(rows, signal, seed), -self.benchmark.query(rows, LATENCY)])

    def share(self, rows: Genotypes, seed: int) -> tuple[float, float]:
        """Return what architectures reach, in labels that the search saw and in those it did not."""
        k, seen = seed % len(self.shown), self.points(rows, seed)
        kept = rows[next(fronts(seen))]
        return (
            hypervolume(seen, self.reference) / self.shown[k],
            hypervolume(self.points(kept, seed, report=True), self.reference) / self.reported[k],
        )


@cache
def arena(table: str) -> Arena:
    """Open a table."""
    benchmark = open_benchmark(table)
    held = benchmark.architectures()
    assert held is not None
    seeds = range(benchmark.n_seeds(benchmark.search.metric) if benchmark.search.seeds == "one" else 1)
    plain = Arena(benchmark, np.empty(0), np.empty(0), np.empty(0))
    reference = np.median(plain.points(held, 0), axis=0)
    shown, reported = (
        np.array([hypervolume(plain.points(held, seed, report), reference) for seed in seeds])
        for report in (False, True)
    )
    return Arena(benchmark, reference, shown, reported)


def bought(
    one: Arena, spec: str, seed: int, queries: int, *, objectives: int, max_ms: float | None = None
) -> Genotypes:
    """Return the architectures of one search, ``(queries, s)``, in order."""
    space = one.benchmark.space
    if max_ms is not None:
        space = affordable(space, KnownCost(one.benchmark, LATENCY), max_ms)
    strategy = registry.configure("strategy", spec, space)
    history = History.empty(space, objectives)
    for number in range(queries):
        rows = strategy.propose(history, 1, trial_rng(seed, number))
        history = history.extended(rows, one.points(rows, seed)[:, :objectives])
    return history.genotypes


def run(table: str, spec: str, budgets: bool, seed: int, queries: Sequence[int]) -> dict[str, Any]:
    """Return the shares that one run reaches after each number of queries, and the front it ends with."""
    one = arena(table)
    with one_thread():
        if budgets:
            held = one.benchmark.architectures()
            bounds = np.quantile(one.benchmark.query(held, LATENCY), QUANTILES)
            most = queries[-1] // len(bounds)
            parts = [bought(one, spec, seed, most, objectives=1, max_ms=float(bound)) for bound in bounds]
        else:
            parts = [bought(one, spec, seed, queries[-1], objectives=2)]
    shares = {}
    for at in queries:
        shares[str(at)] = one.share(np.concatenate([part[: at // len(parts)] for part in parts]), seed)
    every = np.concatenate(parts)
    return {
        "table": table,
        "strategy": f"{spec}, 4 budgets" if budgets else spec,
        "seed": seed,
        "shares": shares,
        "front": staircase(one.points(every, seed)).tolist(),
    }


def summarised(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Return mean and s.d. over the runs of one strategy on one table, in percent."""
    table = 100 * np.array([list(one["shares"].values()) for one in runs])
    queries = list(runs[0]["shares"])
    return {
        "table": runs[0]["table"],
        "strategy": runs[0]["strategy"],
        "seeds": len(runs),
        "hypervolume_pct_mean": dict(zip(queries, table[:, :, 0].mean(axis=0).tolist(), strict=True)),
        "hypervolume_pct_sd": dict(zip(queries, table[:, :, 0].std(axis=0).tolist(), strict=True)),
        "reported_pct_mean": float(table[:, -1, 1].mean()),
        "reported_pct_sd": float(table[:, -1, 1].std()),
        "front": _median_front(runs),
    }


def _median_front(runs: list[dict[str, Any]]) -> list[list[float]]:
    period = len(arena(runs[0]["table"]).shown)
    alike = [run for run in runs if run["seed"] % period == 0]
    ranked = sorted(alike, key=lambda run: list(run["shares"].values())[-1][0])
    front: list[list[float]] = ranked[len(ranked) // 2]["front"]
    return front


def show(rows: list[dict[str, Any]]) -> None:
    """Print one table's rows, best first."""
    queries = list(rows[0]["hypervolume_pct_mean"])
    accuracy, latency = arena(rows[0]["table"]).reference
    print(f"\n{rows[0]['table']}, {rows[0]['seeds']} seeds; better than {100 * accuracy:.2f} % and {-latency:.2f} ms")
    print(f"{'strategy':<36}" + "".join(f"{f'@{at}':>16}" for at in queries) + f"{'reported':>16}")
    for row in sorted(rows, key=lambda row: -row["hypervolume_pct_mean"][queries[-1]]):
        cells = [(row["hypervolume_pct_mean"][at], row["hypervolume_pct_sd"][at]) for at in queries]
        cells.append((row["reported_pct_mean"], row["reported_pct_sd"]))
        print(f"{row['strategy']:<36}" + "".join(f"{f'{mean:.2f} ({sd:.2f})':>16}" for mean, sd in cells))


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Write a page with the rows' fronts."""
    from plotly.colors import qualitative
    from plotly.subplots import make_subplots

    tables = list(dict.fromkeys(row["table"] for row in rows))
    figure = make_subplots(rows=1, cols=len(tables), subplot_titles=tables)
    for column, table in enumerate(tables, start=1):
        one, place = arena(table), {"row": 1, "col": column}
        held = one.benchmark.architectures()
        assert held is not None
        every = one.points(held, 0)
        some = every[(every > one.reference).all(axis=1)]
        figure.add_scatter(
            x=-some[:, 1], y=100 * some[:, 0], name="architectures", showlegend=column == 1,
            mode="markers", marker={"size": 2, "color": "lightgray"}, **place,
        )  # fmt: skip
        exact = staircase(some)
        fronts = {"exact front": exact} | {r["strategy"]: np.array(r["front"]) for r in rows if r["table"] == table}
        for (name, front), color in zip(fronts.items(), ("black", *qualitative.D3), strict=False):
            figure.add_scatter(
                x=-front[:, 1], y=100 * front[:, 0], name=name, legendgroup=name, showlegend=column == 1,
                mode="lines" if name == "exact front" else "lines+markers",
                line={"shape": "hv", "color": color, "width": 1.5}, marker={"size": 5}, **place,
            )  # fmt: skip
        for axis, ends in ((figure.update_xaxes, -exact[[0, -1], 1]), (figure.update_yaxes, 100 * exact[[0, -1], 0])):
            room = 0.05 * (ends[1] - ends[0])
            axis(range=[ends[0] - room, ends[1] + room], **place)
    figure.update_xaxes(title="latency, ms")
    figure.update_yaxes(title="validation accuracy, %", row=1, col=1)
    figure.update_layout(template="plotly_white", legend={"orientation": "h", "y": -0.2}, height=520)
    figure.write_html(path, include_plotlyjs=True, config={"displayModeBar": False})


def main() -> None:
    """Search, print the tables, write ``summary.json`` and ``pareto.html``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="accepted for uniformity; the tables are built in")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("latency_pareto"))
    parser.add_argument("--quick", action="store_true", help="one table, 2 seeds, 40 queries")
    options = parser.parse_args()
    tables, seeds, queries = (TABLES[:1], 2, (20, 40)) if options.quick else (TABLES, options.seeds, QUERIES)
    for table in tables:
        arena(table)  # converted once, before the workers ask for it
    ways = [(spec, False) for spec in BOTH] + [(spec, True) for spec in ONE]
    jobs = [(table, *way, seed, queries) for table in tables for way in ways for seed in range(seeds)]
    runs = Parallel(n_jobs=options.jobs)(delayed(run)(*job) for job in jobs)
    groups: dict[Any, list[dict[str, Any]]] = {}
    for job, one in zip(jobs, runs, strict=True):
        groups.setdefault(job[:3], []).append(one)
    rows = [summarised(group) for group in groups.values()]
    for table in tables:
        show([row for row in rows if row["table"] == table])
    options.out.mkdir(parents=True, exist_ok=True)
    facts = {"rows": rows, "references": {t: arena(t).reference.tolist() for t in tables}, "environment": environment()}
    (options.out / "summary.json").write_text(json.dumps(facts, indent=1) + "\n")
    draw(rows, options.out / "pareto.html")


if __name__ == "__main__":
    main()
