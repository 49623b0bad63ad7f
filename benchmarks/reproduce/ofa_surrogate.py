"""Search in about 10^19 networks: our strategies against once-for-all's own evolution, at equal predictor calls.

    python benchmarks/reproduce/ofa_surrogate.py --data FOLDER [--seeds 5] [--jobs 2] [--out DIR] [--quick]

FOLDER holds ``ofa_mobilenetv3/`` with once-for-all's ``accuracy_predictor.pth`` and ``note10_lookup_tables/``. What a
search sees, and what is printed, is the predicted top-1 accuracy in per cent of the best network so far, mean and s.d.
over seeds; the predictor is deterministic, so a second look at the same label could not help. Predictions are of images
held out of ImageNet's training set, a few points above validation accuracy.

1. 500 calls, one proposal at a time, without a bound and with the Note10 latency (the sum of the published table)
   bounded: searches then run in the part of the space that the table allows, as the authors redraw until it does.
2. 50,100 calls, the authors' budget, by generations of 100 proposals; strategies that take minutes are left out.

``ofa-evolution`` has the authors' settings: population 100, a quarter parents, half mutants, mutation probability 0.1.
``best known`` is the best network of any run, improved by steps to its best neighbour until none is better.
Finished runs are kept under OUT/cache and not made again while the code they depend on is the same. Defaults of our
strategies were chosen on NAS-Bench-201, none of them here.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from joblib import Memory, Parallel, delayed
from numpy.typing import NDArray

from nasplug import registry
from nasplug.benchmarks.environment import code_digest, environment, one_thread
from nasplug.benchmarks.importers.ofa import read_note10_tables, read_predictor
from nasplug.benchmarks.ofa_surrogate import OFASurrogate
from nasplug.cost_models.constraint import affordable
from nasplug.spaces import Genotypes, Space
from nasplug.strategies import History, trial_rng

BOUNDS = (None, 20.0, 30.0)
SHORT = ("random", "regularized-evolution", "local-search", "optuna:tpe", "ofa-evolution", "weaknas")
UNBOUNDED = "optuna:tpe"
"""Knows no part of a space: under a bound most of what it proposes is turned down, and a run takes minutes."""

LONG = {
    "random": 100,
    "regularized-evolution:population=100,tournament=25": 100,
    "ofa-evolution": 100,
}
"""Strategy -> proposals at a time."""

LONG_SEEDS = 2

CALLS = (50, 100, 200, 500)
MANY_CALLS = (100, 500, 2_000, 10_000, 50_100)


class Note10:
    """The table of a Samsung Note10 as a cost model."""

    def __init__(self, benchmark: OFASurrogate):
        self._benchmark = benchmark

    def predict(self, genotypes: Genotypes) -> NDArray[np.float64]:
        """Return milliseconds."""
        return self._benchmark.query(genotypes, "latency_note10_ms")

    def deviation(self, genotypes: Genotypes) -> NDArray[np.float64]:
        """Return zeros: the table is the truth here."""
        return np.zeros(len(genotypes))


def opened(folder: Path) -> OFASurrogate:
    """Return the benchmark from the original files."""
    source = folder / "ofa_mobilenetv3"
    tables = read_note10_tables(source / "note10_lookup_tables")
    return OFASurrogate(
        {"accuracy_predictor": read_predictor(source / "accuracy_predictor.pth"), "note10_tables": tables}
    )


def part(benchmark: OFASurrogate, bound: float | None) -> Space:
    """Return the space of a bound on the Note10."""
    return benchmark.space if bound is None else affordable(benchmark.space, Note10(benchmark), bound)


def run(folder: Path, spec: str, bound: float | None, calls: tuple[int, ...], batch: int, seed: int) -> dict[str, Any]:
    """Return one search: the best accuracy after each number of calls, and the best network."""
    benchmark = opened(folder)
    space = part(benchmark, bound)
    history = History.empty(space)
    started = time.process_time()
    with one_thread():
        strategy = registry.configure("strategy", spec, space)
        while len(history) < calls[-1]:
            wanted = min(batch, calls[-1] - len(history))
            rows = strategy.propose(history, wanted, trial_rng(seed, len(history)))
            history = history.extended(rows, benchmark.query(rows, "valid"))
    so_far = 100 * np.maximum.accumulate(history.values[:, 0])
    best = history.genotypes[int(np.argmax(history.values[:, 0]))]
    return {
        "strategy": spec,
        "bound_ms": bound,
        "seed": seed,
        "accuracy_pct": {str(at): float(so_far[at - 1]) for at in calls},
        "calls_until_best": int(np.argmax(history.values[:, 0])) + 1,
        "cpu_s": time.process_time() - started,
        "best": benchmark.space.to_string(best[None])[0],
        "best_note10_ms": float(benchmark.query(best[None], "latency_note10_ms")[0]),
    }


def climbed(benchmark: OFASurrogate, bound: float | None, text: str) -> tuple[str, float]:
    """Return the network that steps to the best neighbour lead to, and its accuracy in per cent."""
    space = part(benchmark, bound)
    (row,) = space.from_string([text])
    value = benchmark.query(row[None], "valid")[0]
    while True:
        near = space.neighbors(row)
        values = benchmark.query(near, "valid")
        if values.max() <= value:
            return space.to_string(row[None])[0], 100 * float(value)
        row, value = near[int(np.argmax(values))], values.max()


def line(runs: list[dict[str, Any]], calls: tuple[int, ...]) -> dict[str, Any]:
    """Return mean and s.d. over the runs of one strategy under one bound."""
    table = np.array([[one["accuracy_pct"][str(at)] for at in calls] for one in runs])
    return {
        "strategy": runs[0]["strategy"],
        "bound_ms": runs[0]["bound_ms"],
        "seeds": len(runs),
        "budget": calls[-1],
        "accuracy_pct_mean": dict(zip(map(str, calls), table.mean(axis=0).tolist(), strict=True)),
        "accuracy_pct_sd": dict(zip(map(str, calls), table.std(axis=0).tolist(), strict=True)),
        "cpu_s": float(np.mean([one["cpu_s"] for one in runs])),
        "slowest_ms": max(one["best_note10_ms"] for one in runs),
    }


def show(lines: list[dict[str, Any]], best: dict[str, tuple[str, float]]) -> None:
    """Print a table a bound and budget."""
    for budget in sorted({one["budget"] for one in lines}):
        for bound in BOUNDS:
            here = [one for one in lines if one["budget"] == budget and one["bound_ms"] == bound]
            if not here:
                continue
            limit = "no bound" if bound is None else f"at most {bound:g} ms on the Note10"
            print(f"\n{budget:,} predictor calls, {limit}; best known {best[str(bound)][1]:.3f} %")
            calls = list(here[0]["accuracy_pct_mean"])
            print(f"{'strategy':<52}{'seeds':>6}" + "".join(f"{f'@{int(at):,}':>16}" for at in calls) + f"{'CPU s':>9}")
            for one in here:
                cells = [f"{one['accuracy_pct_mean'][at]:.3f} ({one['accuracy_pct_sd'][at]:.3f})" for at in calls]
                print(
                    f"{one['strategy']:<52}{one['seeds']:>6}"
                    + "".join(f"{c:>16}" for c in cells)
                    + f"{one['cpu_s']:>9.1f}"
                )
            if bound is not None:
                print(f"slowest network chosen: {max(one['slowest_ms'] for one in here):.3f} ms")
    print("\nbest known networks")
    for bound, (text, value) in best.items():
        print(f"{bound:>6} ms  {value:.3f} %  {text}")


def main() -> None:
    """Search, print the tables and write ``summary.json``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5, help="runs of 500 calls; of 50,100 there are fewer")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("ofa_surrogate"))
    parser.add_argument("--quick", action="store_true", help="100 calls without a bound, two seeds")
    options = parser.parse_args()
    short, bounds, seeds, long = CALLS, BOUNDS, options.seeds, LONG
    if options.quick:
        short, bounds, seeds, long = CALLS[:2], BOUNDS[:1], 2, {}
    specs = {bound: [spec for spec in SHORT if bound is None or spec != UNBOUNDED] for bound in bounds}
    jobs = [(spec, bound, short, 1, seed) for bound in bounds for spec in specs[bound] for seed in range(seeds)]
    jobs += [
        (spec, None, MANY_CALLS, batch, seed) for spec, batch in long.items() for seed in range(min(LONG_SEEDS, seeds))
    ]
    kept = Memory(options.out / "cache" / code_digest(History.__module__), verbose=0).cache(run, ignore=["folder"])
    runs = Parallel(n_jobs=options.jobs)(delayed(kept)(options.data, *job) for job in jobs)
    groups: dict[Any, list[dict[str, Any]]] = {}
    for job, one in zip(jobs, runs, strict=True):
        groups.setdefault(job[:3], []).append(one)
    lines = [line(found, calls) for (_, _, calls), found in groups.items()]
    benchmark = opened(options.data)
    best = {}
    for bound in bounds:
        found = sorted(
            (one for one in runs if one["bound_ms"] == bound), key=lambda one: -max(one["accuracy_pct"].values())
        )
        tops = [climbed(benchmark, bound, one["best"]) for one in found[:20]]
        best[str(bound)] = max(tops, key=lambda top: top[1])
    show(lines, best)
    options.out.mkdir(parents=True, exist_ok=True)
    facts = {"rows": lines, "best_known": best, "provenance": benchmark.provenance(), "environment": environment()}
    (options.out / "summary.json").write_text(json.dumps(facts, indent=1))


if __name__ == "__main__":
    main()
