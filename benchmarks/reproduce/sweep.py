"""A sweep of ten strategies over eleven tables: how long, how much faster with two jobs, how much memory.

    python benchmarks/reproduce/sweep.py [--seeds 20] [--budget 100] [--out DIR] [--quick]

``nasplug compare`` as a command, with one job and with two, in turns, each in an empty folder and without the report;
the tables are converted before. Ten strategies, the three data sets of NAS-Bench-201 and eight of NAS-Bench-Graph.
Printed: wall-clock time, processor time of all its processes, the ratio of the wall-clock times, peak memory (the sum
of the proportional set sizes of all processes, four times a second; Linux), and whether both wrote the same results.
Asked for: less than 10 minutes and 2 GiB on two cores, at least 1.8 times as fast with two jobs. Exits 1 where one is
missed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from nasplug.benchmarks import open_benchmark
from nasplug.benchmarks.environment import environment

STRATEGIES = (
    "random",
    "local-search",
    "regularized-evolution",
    "ofa-evolution:population=20",
    "weaknas",
    "weaknas:predictor=ridge",
    "weaknas-paper:predictor=ridge",
    "optuna:random",
    "optuna:tpe",
    "optuna:nsga2",
)
TABLES = (
    *(f"nasbench201-{name}" for name in ("cifar10", "cifar100", "imagenet16-120")),
    *(
        f"nasbench-graph-{name}"
        for name in ("cora", "citeseer", "pubmed", "cs", "physics", "photo", "computers", "arxiv")
    ),
)
MINUTES, FASTER, GIB = 10.0, 1.8, 2.0


def sweep(jobs: int, options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Run the command once; return what it took."""
    command = [
        str(Path(sys.executable).with_name("nasplug")),
        "compare",
        "--jobs",
        str(jobs),
        "--out",
        str(folder),
        "--no-html",
    ]
    command += ["--seeds", str(options.seeds), "--budget", str(options.budget)]
    for name, values in (("-b", TABLES[::5] if options.quick else TABLES), ("-s", STRATEGIES)):
        command += [part for value in values for part in (name, value)]
    before, started, peak = os.times(), time.perf_counter(), 0.0
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    while process.poll() is None:
        peak = max(peak, memory(process.pid))
        time.sleep(0.25)
    took, after = time.perf_counter() - started, os.times()
    if process.returncode:
        sys.exit(f"{' '.join(command)} ended with {process.returncode}")
    digest = hashlib.sha256((folder / "results.parquet").read_bytes()).hexdigest()
    cpu = sum(after[2:4]) - sum(before[2:4])
    row = {"jobs": jobs, "seconds": took, "cpu_seconds": cpu, "peak_gib": peak / 2**30, "results": digest}
    print(f"{jobs:>4}{took:>10.1f}{cpu:>10.1f}{row['peak_gib']:>11.2f}  {digest[:12]}", flush=True)
    return row


def memory(session: int) -> float:
    """Return the bytes that the processes of a session hold, what they share counted once."""
    total = 0.0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError, IndexError, StopIteration):  # processes come and go
            if int(stat.read_text().rpartition(")")[2].split()[3]) == session:
                lines = (stat.parent / "smaps_rollup").read_text().splitlines()
                total += 1024 * next(float(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--budget", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=1, help="of both, in turns; the median counts")
    parser.add_argument("--out", type=Path, default=Path("sweep"))
    parser.add_argument("--quick", action="store_true", help="three tables, two seeds: too few to judge")
    options = parser.parse_args()
    if options.quick:
        options.seeds = 2
    for name in TABLES:
        open_benchmark(name)
    print(f"{len(STRATEGIES)} strategies x {len(TABLES)} tables x {options.seeds} seeds x {options.budget} queries")
    print(f"{'jobs':>4}{'seconds':>10}{'cpu s':>10}{'peak GiB':>11}  results")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(options.repeats):
            rows += [sweep(jobs, options, Path(folder) / f"{jobs}-{turn}") for jobs in (1, 2)]
    one, two = (sorted(row["seconds"] for row in rows if row["jobs"] == jobs)[options.repeats // 2] for jobs in (1, 2))
    peak = max(row["peak_gib"] for row in rows)
    same = len({row["results"] for row in rows}) == 1
    met = two < 60 * MINUTES and one / two >= FASTER and peak < GIB and same
    print(
        f"two jobs: {two / 60:.1f} minutes (asked: below {MINUTES:g}), {one / two:.2f} times as fast as one "
        f"(asked: {FASTER:g}), at most {peak:.2f} GiB (asked: {GIB:g}); results {'the same' if same else 'DIFFER'}"
    )
    options.out.mkdir(parents=True, exist_ok=True)
    facts = {"rows": rows, "ratio": one / two, "environment": environment()}
    (options.out / "summary.json").write_text(json.dumps(facts, indent=1) + "\n")
    return 0 if met or options.quick else 1


if __name__ == "__main__":
    sys.exit(main())
