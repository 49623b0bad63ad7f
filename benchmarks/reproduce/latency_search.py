"""Search under a latency budget: with a model of ten measured networks against search with the true latencies.

    python benchmarks/reproduce/latency_search.py --data FOLDER [--seeds 20] [--jobs 2] [--out DIR] [--quick]

FOLDER holds ``nasbench201.npz`` (or ``latency/`` with it) in HELP's layout. A run: ``few-shot`` learns from HELP's
source devices and ten networks measured on the target (those it suggests, out of a random half of the first 900 rows),
then ``weaknas`` buys 100 validation labels of ``nasbench201-cifar10`` among the cells predicted to fit the budget; its
peer searches among those that truly fit. Budgets are the 20, 50 and 80 % quantiles of the target's latencies. Reported
is the label of the training seeds that the search did not see, in percent, how often the cell found is truly over the
budget, and by how much at most. "Checked" is what a person does who has the device at hand: measure the best cell
bought, and if it is over the budget the next one, until one fits ("checks" measurements more). "None" are runs in which
no cell is predicted to fit, which end in an error that names the cheapest.

A margin is how many standard deviations a prediction must stay below the budget. Two are chosen by the runs on HELP's
validation devices, and the test devices are then searched with these and with none: "blind", the smallest with at most
5 % of runs over the budget (the largest tried if none is), for those who cannot measure what they found; and "checked",
the one with the least loss after checks.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from joblib import Parallel, delayed
from numpy.typing import NDArray

from nasplug.benchmarks import open_benchmark
from nasplug.benchmarks.environment import one_thread
from nasplug.benchmarks.importers.help_npz import read_help
from nasplug.benchmarks.latency_tasks import TASKS
from nasplug.benchmarks.search import Arena, search
from nasplug.cost_models.base import LatencyBank
from nasplug.cost_models.constraint import Predicts, affordable
from nasplug.cost_models.few_shot import FewShot
from nasplug.errors import InputError
from nasplug.spaces import Genotypes, Space
from nasplug.strategies.weaknas import WeakNAS

BENCHMARK = "nasbench201-cifar10"
VALIDATION = ("titanx_1", "titanx_32", "titanx_256", "gold_6240")
MARGINS = (-0.75, -0.5, -0.25, 0.0, 0.25, 0.5, 0.75)
QUANTILES = (0.2, 0.5, 0.8)
QUERIES = 100


@dataclass
class TrueCost:
    """A device's own latencies, for cells in any order."""

    space: Space
    genotypes: Genotypes
    ms: NDArray[np.float64]

    def __post_init__(self) -> None:
        order = np.argsort(self.space.keys(self.genotypes))
        self._by_row = self.ms[order]

    def predict(self, genotypes: Genotypes) -> NDArray[np.float64]:
        return self._by_row[self.space.index(genotypes)]

    def deviation(self, genotypes: Genotypes) -> NDArray[np.float64]:
        return np.zeros(len(genotypes))


def ranking(space: Space, model: Predicts, bound: float, margin: float, seed: int) -> tuple[Genotypes, Any]:
    """Return the cells that a search under the budget bought, best first, and their labels of unseen training seeds."""
    benchmark = open_benchmark(BENCHMARK)
    arena = Arena.of(benchmark, budget=QUERIES)
    part = affordable(space, model, bound, margin=margin)
    steps = list(search(WeakNAS(space=part), benchmark, arena.search, budget=min(QUERIES, part.size), seed=seed))
    order = np.argsort([-step.observation.value for step in steps], kind="stable")
    cells = np.array([step.observation.genotype for step in steps])[order]
    return cells, benchmark.labels(cells, arena.report, seed)


def run(bank: LatencyBank, target: str, seed: int, margins: tuple[float, ...]) -> list[dict[str, Any]]:
    task, _ = TASKS["HELP"].narrowed(bank)
    space, ms = bank.space, bank.on(target)
    rng = np.random.default_rng([seed, 10])
    half = rng.permutation(task.source_rows)[: task.source_rows // 2]
    sources = tuple(device for device in task.sources if device != target)
    model = FewShot(space=space).pretrain(bank.only(sources).rows(half))
    truth = TrueCost(space, bank.genotypes, ms)
    measured = model.suggest(task.measured, rng)
    model.fit(measured, truth.predict(measured))
    rows = []
    with one_thread():
        for quantile in QUANTILES:
            bound = float(np.quantile(ms, quantile))
            exact = float(ranking(space, truth, bound, 0.0, seed)[1][0])
            for margin in margins:
                row = {"target": target, "seed": seed, "quantile": quantile, "bound_ms": bound, "margin": margin,
                       "label_with_true_latencies": exact, "true_ms": None}  # fmt: skip
                try:
                    cells, labels = ranking(space, model, bound, margin, seed)
                except InputError:
                    rows.append(row)
                    continue
                true_ms = truth.predict(cells)
                fits = np.flatnonzero(true_ms <= bound)
                row |= {"true_ms": float(true_ms[0]), "label": float(labels[0])}
                if len(fits):
                    row |= {"checked_label": float(labels[fits[0]]), "checks": int(fits[0]) + 1}
                rows.append(row)
    return rows


def show(title: str, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Print a line a device, budget and margin, then one a margin over all; return those."""
    heading = ("budget ms", "margin", "true", "predictor", "loss", "over", "worst", "none", "checked", "loss", "checks")
    print(f"\n{title}\n{'device':<14}" + "".join(f"{one:>10}" for one in heading))
    summary = []

    def line(name: str, bound: str, margin: float, part: list[dict[str, Any]]) -> dict[str, Any]:
        done = [one for one in part if one["true_ms"] is not None]
        fit = [one for one in done if "checks" in one]

        def mean(key: str, rows: list[dict[str, Any]]) -> float:
            return float(np.mean([one[key] for one in rows]))

        excess = np.array([one["true_ms"] / one["bound_ms"] - 1 for one in done])
        found = {
            "device": name,
            "bound_ms": bound,
            "margin": margin,
            "runs": len(part),
            "label_pct_with_true_latencies": 100 * mean("label_with_true_latencies", done),
            "label_pct": 100 * mean("label", done),
            "violations": float((excess > 0).mean()),
            "worst_excess": float(max(excess.max(), 0.0)),
            "none_affordable": len(part) - len(done),
            "checked_label_pct": 100 * mean("checked_label", fit),
            "checked_loss_pct": 100 * (mean("label_with_true_latencies", fit) - mean("checked_label", fit)),
            "checks_mean": mean("checks", fit),
            "none_fits_after_checks": len(done) - len(fit),
        }
        loss = found["label_pct_with_true_latencies"] - found["label_pct"]
        print(f"{name:<14}{bound:>10}{margin:>10g}{found['label_pct_with_true_latencies']:>10.3f}"
              f"{found['label_pct']:>10.3f}{loss:>10.3f}{found['violations']:>10.1%}{found['worst_excess']:>10.1%}"
              f"{found['none_affordable']:>10}{found['checked_label_pct']:>10.3f}{found['checked_loss_pct']:>10.3f}"
              f"{found['checks_mean']:>10.2f}")  # fmt: skip
        return found

    margins = sorted({row["margin"] for row in rows})
    for target, bound, margin in sorted({(row["target"], row["bound_ms"], row["margin"]) for row in rows}):
        part = [one for one in rows if (one["target"], one["bound_ms"], one["margin"]) == (target, bound, margin)]
        summary.append(line(target, f"{bound:.2f}", margin, part))
    for margin in margins:
        summary.append(line("all", "", margin, [one for one in rows if one["margin"] == margin]))
    return summary


def chosen(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Return the margins that the runs on all validation devices, a row a margin, speak for."""
    kept = [row["margin"] for row in rows if row["violations"] <= 0.05]
    return {
        "blind": min(kept, default=max(MARGINS)),
        "checked": min(rows, key=lambda row: (row["checked_loss_pct"], row["margin"]))["margin"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("latency_search"))
    parser.add_argument("--quick", action="store_true", help="1 seed")
    options = parser.parse_args()
    seeds = 1 if options.quick else options.seeds
    folder = options.data / "latency" if (options.data / "latency").is_dir() else options.data
    bank = read_help(folder / "nasbench201.npz")
    open_benchmark(BENCHMARK)  # converts the table once, before the workers ask for it
    task, missing = TASKS["HELP"].narrowed(bank)
    valid = [device for device in VALIDATION if device in bank.devices]
    print(f"{QUERIES} queries, {seeds} seeds, 10 measured networks; not in the file: {', '.join(missing) or 'none'}")

    def rows(devices: Sequence[str], margins: tuple[float, ...]) -> list[dict[str, Any]]:
        work = [(device, seed, margins) for device in devices for seed in range(seeds)]
        return [row for part in Parallel(n_jobs=options.jobs)(delayed(run)(bank, *one) for one in work) for row in part]

    summary: dict[str, Any] = {"validation": show("HELP's validation devices", rows(valid, MARGINS))}
    margins = chosen([row for row in summary["validation"] if row["device"] == "all"])
    print("\nmargins chosen there: " + ", ".join(f"{name} {margin:g}" for name, margin in margins.items()))
    summary["test"] = show("HELP's test devices", rows(task.targets, tuple(sorted({0.0, *margins.values()}))))
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "summary.json").write_text(json.dumps({"rows": summary, "margins": margins}, indent=2) + "\n")


if __name__ == "__main__":
    main()
