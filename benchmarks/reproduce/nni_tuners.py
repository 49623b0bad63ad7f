"""WeakNAS against NNI's builtin tuners: 100 queries, 20 runs, with the protocol of ``nasplug compare``.

    python benchmarks/reproduce/nni_tuners.py [--seeds 20] [--jobs 2] [--out DIR] [--quick]

Tables: NAS-Bench-201 on CIFAR-10, NAS-Bench-Graph on Cora and on arXiv; the last two were named before this script was
first run, and took no part in choosing our defaults. NNI's tuners have NNI's defaults, and repeat what is known for
nothing. NNI's regularized evolution starts with 100 random draws, so that all of its budget is random; it is shown with
a population of 20 too.

Two figures a strategy, each with a 95 % bootstrap interval over runs: what the search was shown and maximises (the best
label it bought), and what is reported, another label of the same architecture, which no search saw. A tuner can win
the first and not the second where the first says little about the second.

OUT/summary.json is what ``nasplug compare`` writes; finished runs are kept and used again.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from nasplug.benchmarks.compare import Study, compare
from nasplug.benchmarks.statistics import bootstrap_ci
from nasplug.benchmarks.summary import write_summary

TABLES = ("nasbench201-cifar10", "nasbench-graph-cora", "nasbench-graph-arxiv")
OURS = "weaknas"
STRATEGIES = (
    OURS,
    "nni:tpe",
    "nni:evolution",
    "nni:random",
    "nni:grid",
    "nni:regularized-evolution",
    "nni:regularized-evolution,population=20",
)

Figure = tuple[str, float, Sequence[float]]
"""Strategy, mean and 95 % interval, as fractions."""


def searched(results: pd.DataFrame, table: str) -> list[Figure]:
    """Return the best label each strategy bought on a table, highest mean first."""
    best = results[results.benchmark == table].groupby(["strategy", "seed"]).value.max()
    figures = [(s, float(best[s].mean()), bootstrap_ci(best[s].to_numpy())) for s in STRATEGIES]
    return sorted(figures, key=lambda figure: -figure[1])


def reported(rows: Sequence[dict[str, Any]]) -> list[Figure]:
    """Return the reported label of what each strategy recommends, highest mean first."""
    figures = [(row["strategy"], row["value_mean"], row["value_ci95"]) for row in rows]
    return sorted(figures, key=lambda figure: -figure[1])


def verdict(figures: Sequence[Figure]) -> str:
    """Say who is first, and whether its interval is apart from that of the second."""
    (first, _, high), (second, _, low) = figures[:2]
    if high[0] is None or low[0] is None:
        return f"{first} is first; one run has no interval"
    apart = high[0] > low[1]
    return f"{first} is first, its interval {'apart from' if apart else 'overlapping'} that of {second}"


def show(summary: dict[str, Any], results: pd.DataFrame) -> None:
    """Print the tables."""
    for table in TABLES:
        rows = [row for row in summary["rows"] if row["benchmark"] == table]
        print(f"\n{table}, {rows[0]['seeds']} runs of {rows[0]['budget']} queries")
        for what, figures in (
            (f"best label bought, {rows[0]['search_signal']}", searched(results, table)),
            (f"reported, {rows[0]['report_signal']}", reported(rows)),
        ):
            print(f"  {what:<42}{'mean %':>9}{'95 %':>20}")
            for strategy, mean, bounds in figures:
                interval = "-" if bounds[0] is None else f"[{100 * bounds[0]:.3f}, {100 * bounds[1]:.3f}]"
                print(f"    {strategy:<40}{100 * mean:>9.3f}{interval:>20}")
            print(f"    {verdict(figures)}")
        pairs = [p for p in summary["pairwise"] if p["benchmark"] == table and p["a"] == OURS]
        for pair in pairs:
            print(
                f"  reported, {OURS} minus {pair['b']}: {100 * pair['difference']:+.3f}, "
                f"better in {100 * pair['probability_a_better']:.0f} % of runs, Holm p {pair['p_holm']:.2g}"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--data", type=Path, help="accepted for uniformity; the tables are built in")
    parser.add_argument("--out", type=Path, default=Path("nni_tuners"))
    parser.add_argument("--quick", action="store_true", help="2 seeds, 40 queries")
    options = parser.parse_args()
    seeds, budget = (2, 40) if options.quick else (options.seeds, 100)
    compare(Study(benchmarks=TABLES, strategies=STRATEGIES, seeds=seeds, budget=budget), options.out, jobs=options.jobs)
    show(write_summary(options.out), pd.read_parquet(options.out / "results.parquet"))


if __name__ == "__main__":
    main()
