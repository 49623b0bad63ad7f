"""Relative improvement over random: every strategy on every built-in table, with the protocol of ``nasplug compare``.

    python benchmarks/reproduce/relative_improvement.py [--seeds 20] [--jobs 2] [--out DIR] [--quick]

Prints, for each table, the reported accuracy, RI over the mean architecture and over random search at equal budget
(both with 95 % bootstrap intervals), and mean ranks. Beside them stand the figures of Yang, Esperanca and Carlucci
(ICLR 2020), whose table is another thing: full trainings of cells from several spaces, 8 runs a number. WeakNAS's
defaults were chosen on NAS-Bench-201's CIFAR-10 and CIFAR-100 alone; every other table here took no part in it.
``weaknas-paper`` is left out: minutes a run.

OUT/summary.json is what ``nasplug compare`` writes; finished runs are kept and used again.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nasplug.benchmarks.builtin import OUT_OF_THE_BOX
from nasplug.benchmarks.compare import Study, compare
from nasplug.benchmarks.summary import write_summary

STRATEGIES = ("random", "regularized-evolution", "local-search", "weaknas", "optuna:tpe", "optuna:nsga2")
PUBLISHED = """\
published RI in %, 8 + 8 trainings each (arXiv 1912.12522, table 1), for the scale of things:
            CIFAR-10  CIFAR-100  Sport8   MIT67  Flowers102
DARTS           0.32       0.23   -0.13    0.10        0.25
PDARTS          0.52       1.20    0.51    1.19        0.20
ENAS            0.01      -3.44    0.67    0.13        0.47
NAO             0.44      -0.01   -2.05   -1.53       -0.13"""


def show(summary: dict[str, Any]) -> None:
    """Print the tables."""
    for name in dict.fromkeys(row["benchmark"] for row in summary["rows"]):
        rows = [row for row in summary["rows"] if row["benchmark"] == name]
        print(f"\n{name}: search sees {rows[0]['search_signal']}, report shows {rows[0]['report_signal']}")
        print(f"{'strategy':<24}{'value %':>9}{'RI %':>8}{'95 %':>18}{'over random search %':>22}{'95 %':>18}")
        for row in sorted(rows, key=lambda row: -row["value_mean"]):
            over = row["relative_improvement_vs_random_search_pct"]
            print(
                f"{row['strategy']:<24}{100 * row['value_mean']:>9.3f}{row['relative_improvement_pct']:>8.2f}"
                f"{interval(row['relative_improvement_ci95']):>18}{over:>22.2f}"
                f"{interval(row['relative_improvement_vs_random_search_ci95']):>18}"
            )
    print("\nmean rank over the tables")
    for name, rank in sorted(summary["ranks"]["mean_rank"].items(), key=lambda item: item[1]):
        print(f"{name:<24}{rank:>6.2f}")
    print(summary["ranks"]["note"])
    print(f"\n{PUBLISHED}")


def interval(bounds: Sequence[float | None]) -> str:
    """Return an interval as text; a single run has none."""
    return "-" if bounds[0] is None else f"[{bounds[0]:.2f}, {bounds[1]:.2f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--data", type=Path, help="accepted for uniformity; the tables are built in")
    parser.add_argument("--out", type=Path, default=Path("relative_improvement"))
    parser.add_argument("--quick", action="store_true", help="2 seeds, 40 queries")
    options = parser.parse_args()
    seeds, budget = (2, 40) if options.quick else (options.seeds, 100)
    tables = list(OUT_OF_THE_BOX)
    compare(Study(benchmarks=tables, strategies=STRATEGIES, seeds=seeds, budget=budget), options.out, jobs=options.jobs)
    show(write_summary(options.out))


if __name__ == "__main__":
    main()
