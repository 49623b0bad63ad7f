"""Does it pay to stop trainings early? Optuna's samplers with and without its pruners, at equal simulated seconds.

    python benchmarks/reproduce/early_stopping.py [--benchmark digits201] [--seeds 20] [--jobs 2] [--out DIR] [--quick]

Strategies without a pruner buy 100 whole evaluations; those with one get the seconds that 100 average evaluations take,
and pay a training by the epoch. The table shows the median over runs of the reported accuracy of what a search would
recommend after a tenth, a quarter, half and all of those seconds (a dash: not every run had finished a training), and
how many trainings were begun and stopped. All settings are the defaults of Optuna and nasplug; nothing was tuned.

OUT/summary.json is what ``nasplug compare`` writes, OUT/report.html has the curves; finished runs are kept.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from nasplug.benchmarks.catalog import open_benchmark
from nasplug.benchmarks.compare import Study, compare
from nasplug.benchmarks.report import write_report
from nasplug.benchmarks.summary import write_summary

PRUNERS = ("hyperband", "successive-halving", "median")
STRATEGIES = (
    "random",
    "weaknas",
    "optuna:random",
    *(f"optuna:random+{pruner}" for pruner in PRUNERS),
    "optuna:tpe",
    *(f"optuna:tpe+{pruner}" for pruner in PRUNERS),
)
SHARES = (0.1, 0.25, 0.5, 1.0)


def show(summary: dict[str, Any], mean_s: float) -> None:
    """Print the table; ``mean_s`` is what the average evaluation takes."""
    whole = summary["budget"] * mean_s
    print(f"{summary['seeds']} runs; {summary['budget']} average evaluations take {whole / 60:,.1f} simulated minutes")
    print(f"{'strategy':<32}" + "".join(f"{f'{100 * share:.0f} %':>9}" for share in SHARES) + "   trainings  stopped")
    rows = {row["strategy"]: row for row in summary["rows"]}
    for one in summary["anytime"]:
        row = rows[one["strategy"]]
        print(
            f"{one['strategy']:<32}"
            + "".join(f"{accuracy(one, share * whole):>9}" for share in SHARES)
            + f"{row['queries_mean']:>12.1f}{row['stopped_evaluations_mean']:>9.1f}"
        )


def accuracy(curve: dict[str, Any], seconds: float) -> str:
    """Return the median accuracy after as many seconds, in percent."""
    at = int(np.searchsorted(curve["seconds"], seconds, side="right")) - 1
    value = curve["seconds_value_median"][at] if at >= 0 else None
    return "-" if value is None else f"{100 * value:.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--benchmark", default="digits201", help="a table with learning curves")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--data", type=Path, help="accepted for uniformity; the table is built in")
    parser.add_argument("--out", type=Path, default=Path("early_stopping"))
    parser.add_argument("--quick", action="store_true", help="2 seeds, 20 evaluations")
    options = parser.parse_args()
    seeds, budget = (2, 20) if options.quick else (options.seeds, 100)
    study = Study(benchmarks=[options.benchmark], strategies=STRATEGIES, seeds=seeds, budget=budget)
    compare(study, options.out, jobs=options.jobs)
    benchmark = open_benchmark(options.benchmark)
    show(write_summary(options.out), float(benchmark.cost_s(benchmark.architectures(), benchmark.search).mean()))
    write_report(options.out)


if __name__ == "__main__":
    main()
