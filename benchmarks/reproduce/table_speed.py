"""Time a table: milliseconds to open its file, queries a second in batches, of the out-of-the-box tables.

    python benchmarks/reproduce/table_speed.py [--quick]

Targets: opened in less than 20 ms (a warm process, the median of repeats), at least a million queries a second in
batches of 10,000. Exits 1 where one is missed.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from functools import partial

import numpy as np

from nasplug.benchmarks import open_benchmark
from nasplug.benchmarks.builtin import OUT_OF_THE_BOX

OPEN_MS, QUERIES_PER_S = 20.0, 1e6


def seconds(action: Callable[[], object], repeats: int) -> float:
    """Return the median time of ``action``."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        action()
        times.append(time.perf_counter() - start)
    return float(np.median(times))


def main() -> int:
    parser = argparse.ArgumentParser(description="Time the out-of-the-box tables.")
    parser.add_argument("--quick", action="store_true", help="three tables, few repeats")
    quick = parser.parse_args().quick
    names = sorted(OUT_OF_THE_BOX)
    if quick:
        names = ["nasbench201-cifar10", "nasbench201-cifar10-analog", "nasbench-graph-cora"]
    print(f"{'table':30} {'rows':>6} {'open ms':>8} {'M queries/s by batch: 10,000':>29} {'100,000':>8}")
    missed = [name for name in names if not timed(name, repeats=5 if quick else 51)]
    verdict = f"missed by {', '.join(missed)}" if missed else "met"
    print(f"targets: open < {OPEN_MS:g} ms, >= {QUERIES_PER_S / 1e6:g} M queries/s: {verdict}")
    return 1 if missed else 0


def timed(name: str, repeats: int) -> bool:
    """Print a table's line; return whether it meets the targets."""
    table = open_benchmark(name)  # converted here, on first use
    opened_ms = 1e3 * seconds(partial(open_benchmark, name), repeats)
    known = table.space.all()
    rates = []
    for batch in (10_000, 100_000):
        asked = known[np.random.default_rng(0).integers(len(known), size=batch)]
        query = partial(table.query, asked, table.search.metric, epochs=table.search.epochs)
        rates.append(batch / seconds(query, repeats))
    print(f"{name:30} {len(known):6} {opened_ms:8.2f} {rates[0] / 1e6:29.1f} {rates[1] / 1e6:8.1f}")
    return opened_ms < OPEN_MS and min(rates) >= QUERIES_PER_S


if __name__ == "__main__":
    sys.exit(main())
