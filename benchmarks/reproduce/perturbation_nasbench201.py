"""Magnitude against perturbation against shared accuracy against random, with supernets trained on digits.

    python benchmarks/reproduce/perturbation_nasbench201.py [--seeds 10] [--jobs 2] [--data DIR] [--out DIR] [--quick]

Every strategy trains a supernet of NAS-Bench-201 on one half of the digits' 1,100 training and validation images and
selects on the other; the 697 test images are never seen. What it selects is looked up: CIFAR-10 and CIFAR-100 test
accuracy after 200 epochs (DIR/nasbench201/epochs200.csv.gz), and the test accuracy on digits of networks trained alone
(``digits201``, where it is built in). Beside them: the mean and the median of the space, the cell of six 3x3
convolutions, and random search that trains as many networks alone as fit into the CPU seconds of a supernet, and takes
the best by validation (``digits201``).

``darts`` is run twice: with the 16 epochs that the others train, and with as many as ``darts-pt`` takes in all. Then
come the decisions of the first run edge by edge, a figure of the supernet's accuracy without each operation, and how
well the accuracy with shared weights ranks the space. Published: 45.70, 11.89 and 6.20 % CIFAR-10 test error for DARTS,
DARTS-PT and DARTS-PT with fixed alpha, with supernets trained on CIFAR-10.

Settings were chosen on seeds 100 to 105; reported are seeds 0 and up. Runs are kept under OUT/runs and resumed.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from joblib import Parallel, delayed
from numpy.typing import NDArray
from scipy.stats import kendalltau, mannwhitneyu, spearmanr

from nasplug import registry
from nasplug.benchmarks import open_benchmark
from nasplug.benchmarks.environment import environment
from nasplug.benchmarks.importers import ImportOptions, add
from nasplug.benchmarks.statistics import best_of_random, bootstrap_ci, relative_improvement
from nasplug.spaces import NASBench201
from nasplug.spaces.nasbench201 import EDGES, OPERATIONS

SPACE = NASBench201()
METHODS = {
    "darts": "darts",
    "darts, epochs of darts-pt": "darts:epochs=31",
    "darts-pt": "darts-pt",
    "darts-pt-fixed-alpha": "darts-pt-fixed-alpha",
    "spos": "spos",
}
PUBLISHED = {"darts": 54.30, "darts-pt": 88.11, "darts-pt-fixed-alpha": 93.80}
RANKED = 500
"""Architectures whose shared accuracy is compared with the tables."""


def one_run(spec: str, seed: int, folder: Path) -> dict[str, Any]:
    """Train one supernet, or read what an earlier call trained; return what it selects and what it cost."""
    import torch

    torch.set_num_threads(1)
    strategy = registry.configure("strategy", f"{spec}{',' if ':' in spec else ':'}folder={folder}", SPACE)
    run = strategy.run(seed)
    cost, started = run.folder / "cpu_seconds.txt", time.process_time()
    last = run.selection(run.stages - 1)
    if not cost.exists():
        cost.write_text(f"{time.process_time() - started:.2f}")
    trace = [run.selection(stage) for stage in range(run.stages)]
    return {
        "spec": spec,
        "seed": seed,
        "selected": last.ranking[0].tolist(),
        "cpu_s": float(cost.read_text()),
        "removals": [one for selection in trace for one in selection.facts.get("removals", [])],
        "mixture": last.facts.get("mixture"),
        "valid": trace[-1].facts.get("valid"),
    }


def shared_ranks(spec: str, seed: int, folder: Path, labels: Mapping[str, NDArray[np.float64]]) -> dict[str, Any]:
    """Return how the accuracy with shared weights ranks random architectures, against every label."""
    import torch

    from nasplug.strategies.supernet.random_paths import SinglePaths, path_mixture

    torch.set_num_threads(1)
    strategy = registry.configure("strategy", f"{spec}:folder={folder}", SPACE)
    method = strategy.run(seed).method()
    rows = np.unique(SPACE.representative(SPACE.all()), axis=0)
    rows = rows[np.random.default_rng(0).choice(len(rows), RANKED, replace=False)]
    if isinstance(method, SinglePaths):
        loss = method.shared_accuracy(rows)[1]
    else:
        net = method.training.net
        loss = [method.evaluate(path)[1] for path in path_mixture(net, rows)]
    worth = -np.nan_to_num(np.array(loss), nan=np.inf)
    index = SPACE.index(rows)
    found: dict[str, Any] = {"spec": spec, "seed": seed}
    for name, label in labels.items():
        found[name] = {
            "spearman": float(spearmanr(worth, label[index])[0]),
            "kendall": float(kendalltau(worth, label[index])[0]),
        }
    return found


def tables(data: Path | None) -> dict[str, NDArray[np.float64]]:
    """Return the labels of all cells in percent, in the order of the space."""
    found = {}
    if data is not None:
        for dataset in ("cifar10", "cifar100"):
            options = ImportOptions(
                space="nasbench201", arch_column="arch_str", metrics=[f"{dataset}_test_accuracy=test@200"]
            )
            add([data / "nasbench201" / "epochs200.csv.gz"], options, name=f"pt-{dataset}", overwrite=True)
            found[dataset] = 100 * open_benchmark(f"pt-{dataset}").query(SPACE.all(), "test", epochs=200)
    if "digits201" in registry.names("benchmark"):
        found["digits"] = 100 * open_benchmark("digits201").query(SPACE.all(), "test")
    return found


def line(name: str, values: Mapping[str, NDArray[np.float64]], labels: Mapping[str, NDArray[np.float64]]) -> str:
    """Return one line of the table: mean, 95 % interval and relative improvement, data set by data set."""
    cells = []
    for dataset, label in labels.items():
        if dataset not in values:
            cells.append(f"{'':>33}")
            continue
        found = values[dataset]
        low, high = bootstrap_ci(found) if len(found) > 1 else (found[0], found[0])
        improvement = float(relative_improvement(found, label.mean()).mean())
        cells.append(f"{found.mean():8.2f} [{low:6.2f}, {high:6.2f}] {improvement:+7.2f}")
    return f"{name:<28}" + " ".join(cells)


def random_search(seconds: float, labels: Mapping[str, NDArray[np.float64]]) -> tuple[int, dict[str, float]]:
    """Return how many networks train alone in so many seconds, and the expected labels of the best by validation."""
    table = open_benchmark("digits201")
    cost = float(table.cost_s(SPACE.all(), table.search).mean())
    affordable = max(1, int(seconds / cost))
    valid = table.query(SPACE.all(), "valid", seed=0)
    return affordable, {name: float(best_of_random(valid, label, [affordable])[0]) for name, label in labels.items()}


def draw(run: Mapping[str, Any], path: Path) -> None:
    """Write what the supernet of one run is worth without each operation, edge by edge, as one picture."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    steps = run["removals"]
    figure, axes = plt.subplots(1, len(steps), figsize=(12, 3.4), sharey=True, layout="constrained")
    for axis, step in zip(axes, steps, strict=True):
        colours = ["#d1495b" if part == step["chosen"] else "#9db4c0" for part in step["parts"]]
        axis.bar([OPERATIONS[part] for part in step["parts"]], step["loss"], color=colours)
        source, target = EDGES[step["decision"]]
        axis.set_title(f"edge {source} to {target}", fontsize=9)
        axis.tick_params(axis="x", rotation=90, labelsize=8)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("validation loss without it")
    figure.suptitle(f"{run['spec']}, seed {run['seed']}: decisions from left to right; red is missed most, and stays")
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--data", type=Path, help="folder of the reference tables")
    parser.add_argument("--out", type=Path, default=Path("perturbation_nasbench201"))
    parser.add_argument("--quick", action="store_true", help="1 seed, darts-pt-fixed-alpha alone")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    os.environ["NASPLUG_DATA"] = str((options.out / "data").absolute())
    labels = tables(options.data)
    if not labels:
        raise SystemExit("nothing to look cells up in: give --data DIR, or build digits201")
    methods = {"darts-pt-fixed-alpha": "darts-pt-fixed-alpha"} if options.quick else METHODS
    seeds = 1 if options.quick else options.seeds
    folder = (options.out / "runs").absolute()
    runs = Parallel(n_jobs=options.jobs)(
        delayed(one_run)(spec, seed, folder) for seed in range(seeds) for spec in methods.values()
    )
    report(methods, runs, labels, options.out, seeds)
    ranks = Parallel(n_jobs=options.jobs)(
        delayed(shared_ranks)(spec, seed, folder, labels)
        for spec in ("darts-pt-fixed-alpha", "spos")
        for seed in range(min(seeds, 3))
        if spec in methods.values()
    )
    print(f"\nRank correlation of the loss with shared weights and the tables, {RANKED} random classes")
    for one in ranks:
        parts = [f"{name} ρ {one[name]['spearman']:.3f} τ {one[name]['kendall']:.3f}" for name in labels]
        print(f"{one['spec']:<28}seed {one['seed']}  " + "   ".join(parts))
    rows = [{k: v for k, v in run.items() if k != "mixture"} for run in runs]
    summary = {"rows": rows, "shared_ranks": ranks, "environment": environment()}
    (options.out / "summary.json").write_text(json.dumps(summary, indent=1) + "\n")


def report(
    methods: Mapping[str, str],
    runs: list[dict[str, Any]],
    labels: Mapping[str, NDArray[np.float64]],
    out: Path,
    seeds: int,
) -> None:
    """Print the table of what was selected, the tests, and the first run's decisions; draw those."""
    print(f"{seeds} seeds; test accuracy in percent: mean [95 % interval] improvement over the mean of the space, %")
    print(f"{'':<28}" + " ".join(f"{name:^33}" for name in labels))
    found, seconds = {}, {}
    for name, spec in methods.items():
        rows = SPACE.index(np.array([run["selected"] for run in runs if run["spec"] == spec]))
        found[name] = {dataset: label[rows] for dataset, label in labels.items()}
        seconds[name] = float(np.mean([run["cpu_s"] for run in runs if run["spec"] == spec]))
        error = f"   published {PUBLISHED[name]:.2f}" if name in PUBLISHED and "cifar10" in labels else ""
        print(line(name, found[name], labels) + f"   {seconds[name]:5.1f} CPU-s{error}")
    convolutions = SPACE.index(np.full((1, 6), OPERATIONS.index("nor_conv_3x3")))
    print(line("six nor_conv_3x3", {k: v[convolutions] for k, v in labels.items()}, labels))
    print(line("a random cell", {k: v.mean(keepdims=True) for k, v in labels.items()}, labels))
    print(line("the median cell", {k: np.median(v, keepdims=True) for k, v in labels.items()}, labels))
    if "digits" in labels:
        for name in methods:
            count, best = random_search(seconds[name], labels)
            shown = {k: np.array([v]) for k, v in best.items()}
            print(line(f"random search, {count} trainings", shown, labels) + f"   the seconds of {name}")
    for dataset, label in labels.items():
        if "darts" not in found:
            continue
        for name in ("darts-pt", "darts-pt-fixed-alpha"):
            p = mannwhitneyu(found[name][dataset], found["darts"][dataset], alternative="greater").pvalue
            above = bootstrap_ci(found[name][dataset])[0] - label.mean()
            print(f"{dataset}: {name} above darts: one-sided Mann-Whitney p = {p:.4f}; ", end="")
            print(f"its interval begins {above:+.2f} points from the mean of the space")
    for name, spec in methods.items():
        first = next(run for run in runs if run["spec"] == spec and run["seed"] == 0)
        if first["removals"]:
            print(f"\n{name}, seed 0: validation accuracy without each operation, in the order of the decisions")
            for step in first["removals"]:
                source, target = EDGES[step["decision"]]
                shown = "  ".join(
                    f"{OPERATIONS[part]} {100 * accuracy:.1f} ({loss:.3f})"
                    for part, accuracy, loss in zip(step["parts"], step["accuracy"], step["loss"], strict=True)
                )
                print(f"  edge {source} to {target}: {shown} -> {OPERATIONS[step['chosen']]}")
            draw(first, out / f"removals_{spec}.png")


if __name__ == "__main__":
    main()
