"""Training in stacks: how much faster than one network after the other, and how near to it the labels of a table are.

    python benchmarks/reproduce/stacked_training.py [--table digits201] [--build DIR] [--seeds 3] [--jobs 2] [--quick]

Speed: the architectures of a chunk of the table, trained as its build trains them (a stack of 32, evaluation after
every epoch included) and then each alone, as a plain network, by the same number of processes of one thread: one, and
``--jobs`` at a time, each with a chunk of its own. Repeats draw other chunks and alternate with each other, so that a
busy moment of the machine hits all alike; the ratio is taken within a repeat, and its median is reported. At least 2 is
asked for.

Agreement: 20 random trainings of the table (of the finished part of a build in DIR, else of the packaged file), each
repeated alone. In double precision a stack gives the results of its networks alone (tests/benchmarks/trained). In
single precision sums are rounded in another order, and some trainings amplify that, as they amplify any change of that
size: beside each stands the same training alone, from weights changed by about 1e-7 of themselves. Tolerance, for
accuracies on the test part after the last epoch: 0.005 on average, 0.03 for any one. For comparison, how far two
training seeds are apart.

Exits 1 where speed or agreement is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from digits_labels import TEST, VALID, Labels, load
from joblib import Parallel, delayed
from numpy.typing import NDArray

import nasplug
from nasplug.benchmarks.trained.build import PLANS, Plan, keep_freed_memory, train_rows
from nasplug.benchmarks.trained.training import Recipe, Training
from nasplug.errors import DataError
from nasplug.images import load_images
from nasplug.spaces import Genotypes
from nasplug.spaces.modules.build import network

ASKED = 2.0
MEAN_TOLERANCE, LARGEST_TOLERANCE = 0.005, 0.03
CHANGE = 1e-7

Curves = NDArray[np.float64]


def in_a_stack(plan: Plan, rows: Genotypes) -> Curves:
    return train_rows(plan, rows, 0)


def one_by_one(plan: Plan, rows: Genotypes) -> Curves:
    return np.concatenate([train_rows(plan, row[None], 0) for row in rows])


def timed(work: Callable[[Plan, Genotypes], Curves], plan: Plan, rows: Genotypes) -> float:
    """Do the work in this process and return its CPU seconds."""
    prepared()
    started = time.process_time()
    work(plan, rows)
    return time.process_time() - started


def prepared() -> None:
    torch.set_num_threads(1)
    keep_freed_memory()


def speed(plan: Plan, repeats: int, most: int, cells: int) -> list[dict[str, Any]]:
    """Print and return one row a number of processes."""
    numbers = len(plan.representatives) // plan.stack
    chunks = np.random.default_rng(0).permutation(numbers)
    ways = {"stack": in_a_stack, "alone": one_by_one}
    found: dict[int, list[dict[str, float]]] = {}
    for repeat in range(repeats):
        for processes in sorted({1, most}):
            with Parallel(n_jobs=processes) as pool:
                start = [plan.stack * chunks[(repeat * most + k) % numbers] for k in range(processes)]
                parts = [plan.representatives[row : row + cells] for row in start]
                pool(delayed(timed)(one_by_one, plan, part[:1]) for part in parts)  # imports, images
                took: dict[str, float] = {}
                for name in list(ways) if repeat % 2 == 0 else list(ways)[::-1]:
                    started = time.perf_counter()
                    cpu = pool(delayed(timed)(ways[name], plan, part) for part in parts)
                    took |= {f"{name}_wall_s": time.perf_counter() - started, f"{name}_cpu_s": float(np.sum(cpu))}
                found.setdefault(processes, []).append(took)
                print(f"  repeat {repeat}, {processes} process(es): " + _seconds(took), flush=True)
    rows = []
    for processes, repeated in sorted(found.items()):
        networks = processes * cells
        ratios = {
            clock: [one[f"alone_{clock}_s"] / one[f"stack_{clock}_s"] for one in repeated] for clock in ("wall", "cpu")
        }
        row = {
            "processes": processes,
            "networks_per_repeat": networks,
            "stack_networks_per_s": float(np.median([networks / one["stack_wall_s"] for one in repeated])),
            "alone_networks_per_s": float(np.median([networks / one["alone_wall_s"] for one in repeated])),
            **{f"{clock}_ratio": float(np.median(values)) for clock, values in ratios.items()},
            **{f"{clock}_ratios": values for clock, values in ratios.items()},
        }
        rows.append(row)
        print(
            f"{processes} process(es): {row['stack_networks_per_s']:.2f} networks/s in stacks of {cells}, "
            f"{row['alone_networks_per_s']:.2f} alone: {row['wall_ratio']:.2f} times as many "
            f"({min(ratios['wall']):.2f} to {max(ratios['wall']):.2f}), by CPU time {row['cpu_ratio']:.2f}"
        )
    return rows


def _seconds(took: dict[str, float]) -> str:
    return ", ".join(f"{key.removesuffix('_s').replace('_', ' ')} {value:.1f} s" for key, value in took.items())


def repeated(name: str, row: NDArray[np.int64], seed: int) -> tuple[Curves, Curves]:
    """Return the curves ``(e, 6)`` of an architecture trained alone, and of the same from slightly other weights."""
    import torch  # a global one would make joblib send torch.classes along, which cannot travel

    prepared()
    plan = PLANS[name]
    images = load_images(plan.images)
    net = network(plan.open_space(), row, classes=images.classes, seed=seed, **plan.sizes)
    noise = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in net.parameters():
            weight *= 1 + CHANGE * torch.randn(weight.shape, generator=noise)
    changed = list(Training([net], images, Recipe(**plan.recipe), seed))
    return train_rows(plan, row[None], seed)[0], np.concatenate(changed)


def agreement(labels: Labels, many: int, jobs: int) -> dict[str, Any]:
    """Print and return how near trainings alone are to the table."""
    plan, (test, valid) = labels.plan, labels.sizes[[TEST, VALID]]
    trained = np.argwhere(labels.done)
    picked = trained[np.random.default_rng(1).choice(len(trained), many, replace=False)]
    pool = Parallel(n_jobs=jobs)
    curves = pool(delayed(repeated)(plan.name, plan.representatives[c], int(seed)) for c, seed in picked)
    print(f"\n{'architecture':96} seed  test   alone  changed   after the last epoch")
    space = plan.open_space()
    alone, changed = (np.array(part) for part in zip(*curves, strict=True))
    table = labels.accuracy[picked[:, 0], picked[:, 1]][:, :, [VALID, TEST]]
    gaps = {name: np.abs(part[..., [2, 4]] - table) for name, part in (("alone", alone), ("changed", changed))}
    gaps["changed"] = np.abs(changed[..., [2, 4]] - alone[..., [2, 4]])
    for k, (c, seed) in enumerate(picked):
        name = space.to_string(plan.representatives[c : c + 1])[0]
        print(f"{name:96} {seed:4}  {table[k, -1, 1]:.4f} {alone[k, -1, 4]:.4f}   {changed[k, -1, 4]:.4f}")
    facts: dict[str, Any] = {"trainings": many}
    for name, about in (("alone", "alone against the table"), ("changed", f"weights changed by {CHANGE:g}, alone")):
        last = gaps[name][:, -1, 1]
        same = int((np.rint(gaps[name][:, -1] * [valid, test]) == 0).all(axis=1).sum())
        facts[name] = {"mean": float(last.mean()), "largest": float(last.max()), "same": same}
        facts[name]["largest_any_epoch_or_part"] = float(gaps[name].max())
        print(
            f"{about:38}: {same} of {many} have the same accuracies; those on the test part differ by "
            f"{last.mean():.4f} on average, {last.max():.4f} at most (any epoch, either part: {gaps[name].max():.4f})"
        )
    both = labels.done[:, :2].all(axis=1) if labels.done.shape[1] > 1 else np.zeros(1, bool)
    if both.any():
        seeds = labels.accuracy[both, :2, -1, TEST]
        facts["between_seeds_mean"] = float(np.abs(seeds[:, 0] - seeds[:, 1]).mean())
        print(f"{'two training seeds of the table':38}: differ by {facts['between_seeds_mean']:.4f} on average")
    return facts


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", default="digits201", choices=sorted(PLANS))
    parser.add_argument("--build", type=Path, help="folder of a build, finished or not; else the packaged file")
    parser.add_argument("--seeds", type=int, default=3, help="repeats of the timing, with other architectures")
    parser.add_argument("--jobs", type=int, default=2, help="processes at a time in the second timing")
    parser.add_argument("--data", help="accepted for uniformity; images come with scikit-learn")
    parser.add_argument("--out", type=Path, default=Path("stacked_training"))
    parser.add_argument("--quick", action="store_true", help="8 networks once, 2 trainings: too few to judge")
    options = parser.parse_args()
    plan = PLANS[options.table]
    cells = 8 if options.quick else plan.stack
    busy = os.getloadavg()[0]
    print(f"{options.table}: torch {torch.__version__}, {os.cpu_count()} CPUs, load {busy:.1f} before the start")
    throughput = speed(plan, 1 if options.quick else options.seeds, options.jobs, cells)
    try:
        near: dict[str, Any] | None = agreement(
            load(options.table, options.build), 2 if options.quick else 20, options.jobs
        )
    except DataError as error:
        near = None
        print(f"\nno labels to compare with: {error}")
    fast = min(row["wall_ratio"] for row in throughput) >= ASKED
    agrees = near is None or (near["alone"]["mean"] <= MEAN_TOLERANCE and near["alone"]["largest"] <= LARGEST_TOLERANCE)
    print(f"\nat least {ASKED:g} times as fast: {'met' if fast else 'missed'}", end="; ")
    print(f"tolerance of {MEAN_TOLERANCE} on average and {LARGEST_TOLERANCE} at most: {'met' if agrees else 'missed'}")
    options.out.mkdir(parents=True, exist_ok=True)
    versions = {"nasplug": nasplug.__version__, "torch": torch.__version__, "numpy": np.__version__}
    hardware = {"machine": platform.machine(), "cpus": os.cpu_count(), "load": busy}
    summary = {"table": options.table, "rows": throughput, "agreement": near, "versions": versions} | hardware
    (options.out / "summary.json").write_text(json.dumps(summary, indent=1) + "\n")
    return 0 if options.quick or (fast and agrees) else 1


if __name__ == "__main__":
    sys.exit(main())
