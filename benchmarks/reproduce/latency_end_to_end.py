"""From nothing to a network under a budget, on the machine this runs on and with no data from elsewhere.

    python benchmarks/reproduce/latency_end_to_end.py [--out DIR] [--quick] [--data DIR]

Measures 60 random NAS-Bench-201 networks on the CPU (one thread, one 32x32 image, torch as it is), fits ``few-shot``
and ``lookup`` to them, and checks both on 40 others. Then ``weaknas`` searches ``nasbench201-cifar10-analog`` with 100
queries under three budgets, the 20, 50 and 80 % quantiles of the 60 latencies, by ``few-shot``'s predictions; the three
winners are measured in turn. Measurements are kept in DIR, so a run goes on where it stopped. Latencies depend on the
machine; what is to be looked at are ratios: errors, ranks, predicted against measured.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from nasplug import registry
from nasplug.benchmarks import open_benchmark
from nasplug.benchmarks.search import Arena, search
from nasplug.cost_models.accuracy import accuracy
from nasplug.cost_models.constraint import affordable
from nasplug.cost_models.measurements import latencies
from nasplug.cost_models.measuring import Protocol, busy, drift, measure
from nasplug.spaces import NASBench201
from nasplug.strategies.weaknas import WeakNAS

BENCHMARK = "nasbench201-cifar10-analog"
QUANTILES = (0.2, 0.5, 0.8)
MODELS = ("few-shot", "lookup", "flops", "params")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="accepted for uniformity; nothing is read")
    parser.add_argument("--seeds", type=int, default=1, help="accepted for uniformity; one draw is measured")
    parser.add_argument("--jobs", type=int, default=1, help="accepted for uniformity; measuring needs a quiet machine")
    parser.add_argument("--out", type=Path, default=Path("latency_end_to_end"))
    parser.add_argument("--quick", action="store_true", help="12 and 8 networks, 20 queries")
    options = parser.parse_args()
    fitted, checked, budget = (12, 8, 20) if options.quick else (60, 40, 100)
    space, protocol = NASBench201(), Protocol()
    warning = busy()
    if warning:
        print(f"warning: {warning}")
    drawn = space.sample_distinct(fitted + checked, np.random.default_rng(0))
    rows = list(measure(space, drawn, options.out / "measured.csv", protocol))
    _, genotypes, ms = latencies(rows)
    noisy = sum(row.noisy for row in rows)
    drifted = drift(space, rows[0], protocol)
    print(f"{len(rows)} networks measured ({protocol.text()}), {ms.min():.2f} to {ms.max():.2f} ms, {noisy} noisy")
    print(f"the first network, measured again after all others: {drifted:+.1%}")

    title = f"from {fitted}, on {checked}"
    print(f"\n{title:<18}{'RMSE ms':>9}{'MAPE':>8}{'within 10 %':>13}{'Spearman':>10}")
    summary: dict[str, Any] = {"networks": len(rows), "noisy": noisy, "drift": drifted, "models": {}}
    summary["range_ms"] = [ms.min(), ms.max()]
    models = {}
    for name in MODELS:
        models[name] = registry.configure("cost model", name, space).fit(genotypes[:fitted], ms[:fitted])
        found = accuracy(models[name].predict(genotypes[fitted:]), ms[fitted:])
        summary["models"][name] = found.to_json()
        print(f"{name:<18}{found.rmse:>9.3f}{found.mape:>8.1%}{found.within_10pct:>13.1%}{found.spearman:>10.3f}")

    heading = ("affordable", "accuracy", "best there", "predicted", "measured")
    print(f"\n{'budget ms':<12}" + "".join(f"{one:>12}" for one in heading) + "  winner")
    benchmark = open_benchmark(BENCHMARK)
    arena = Arena.of(benchmark, budget=budget)
    summary["searches"] = []
    for quantile in QUANTILES:
        bound = float(np.quantile(ms[:fitted], quantile))
        part = affordable(space, models["few-shot"], bound)
        steps = list(search(WeakNAS(space=part), benchmark, arena.search, budget=min(budget, part.size), seed=0))
        best = max((step.observation for step in steps), key=lambda seen: seen.value)
        winner = np.array([best.genotype])
        predicted = float(models["few-shot"].predict(winner)[0])
        (row,) = measure(space, winner, options.out / "measured.csv", protocol)
        most = float(benchmark.labels(part.all(), arena.search, 0).max())
        numbers = f"{best.value:>12.4f}{most:>12.4f}{predicted:>12.2f}{row.latency_ms:>12.2f}"
        print(f"{bound:<12.2f}{part.size:>12}{numbers}  {row.architecture}")
        summary["searches"].append(
            {"budget_ms": bound, "affordable": part.size, "accuracy": best.value, "best_affordable": most,
             "predicted_ms": predicted, "measured_ms": row.latency_ms, "architecture": row.architecture}
        )  # fmt: skip
    (options.out / "summary.json").write_text(json.dumps({"rows": [summary]}, indent=2) + "\n")


if __name__ == "__main__":
    main()
