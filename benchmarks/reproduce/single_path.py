"""Single-Path NAS: what it finds for what it may cost, and what its supernet costs beside one of separate paths.

    python benchmarks/reproduce/single_path.py --data FOLDER [--seeds 5] [--jobs 2] [--out DIR] [--quick]

FOLDER holds nas-bench-macro_cifar10.json (or nasbench_macro/ with it). Supernets are trained on the digits, for every
seed and target anew; the network found is looked up in two tables of the same 6,561 chains: NAS-Bench-Macro, trained on
CIFAR-10 (mean test accuracy of three trainings), cost being its multiply-adds; and digits-macro, which this project
measures itself (``nasplug data build digits-macro``), cost being those of its small networks. A table that is not here
is left out, and said so. Targets are shares of the way from the cheapest to the dearest chain that keeps the layers
that resize, as the method always does.

    single-path   the strategy with its defaults; lambda is found during the search
    spos          a re-implementation of single-path one-shot on separate paths, of the same sizes: one random path a
                  step, the same images, batches and label smoothing; then the best of 50 random chains at the cost that
                  single-path reached, by shared weights with statistics of their own. It keeps the layers that resize,
                  in training and search, as single-path does
    random        the mean of all chains that cost as much as the one found, to 2.5 %: one random draw
    kept          the mean of those among them that keep the layers that resize

Keeping the layers that resize is worth something without any search: ``kept`` above ``random``. So what is asked for is
that single-path is above ``kept``, too. "in 5 %" is how many selections cost at most the target and at least 0.95 of
it, which the selection enforces; "decided" is how often the thresholds had decided for the very network by themselves.

Intervals are bootstraps over seeds of differences at equal cost; over all targets, over seeds within each target.
Defaults were chosen with seeds 0 and 1 on NAS-Bench-Macro, by its test accuracies and on smaller networks than these;
reported are seeds 200, 201, ... (--first). Other seeds do not hold out a table: digits-macro is the one that had no
part in the choice.

The second part trains supernets in turns, in this process with one thread, on random images: "single", with all that a
step under the price does (decisions, price, two optimisers, clipping); "separate", the mixture of all paths; and
"one path", the same weights with a random path a step. Printed: parameters, bytes kept for the backward pass, time of a
step, and peak memory of a process of its own for each.

OUT/single_path.png shows what was found among all chains (needs matplotlib). Finished searches are kept under
OUT/kept: the same command goes on where it was interrupted.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import time
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from joblib import Memory, Parallel, delayed
from numpy.typing import NDArray
from torch import Tensor, nn

from nasplug.benchmarks import open_benchmark
from nasplug.benchmarks.environment import environment, one_thread
from nasplug.benchmarks.importers.common import ImportOptions
from nasplug.benchmarks.importers.macro import import_macro
from nasplug.benchmarks.statistics import stratified_ci
from nasplug.cost_models.constraint import affordable
from nasplug.cost_models.lookup import Lookup
from nasplug.errors import InputError
from nasplug.images import load_images
from nasplug.spaces import Genotypes, NASBenchMacro, SinglePathDigits, SinglePathImageNet, Space
from nasplug.spaces.modules import complexity, nasbench_macro, single_path
from nasplug.spaces.modules.counting import count_params
from nasplug.spaces.modules.layout import MACRO_SMALL, SINGLE_PATH_SIZES, SinglePathSizes
from nasplug.spaces.modules.nasbench_macro import InvertedResidual
from nasplug.spaces.modules.recalibration import recalibrate
from nasplug.spaces.modules.seeding import seeded
from nasplug.strategies.supernet.data import Halves, halves
from nasplug.strategies.supernet.priced import Price
from nasplug.strategies.supernet.single_path import SinglePathNAS

MACRO = NASBenchMacro()
DIGITS = {**MACRO_SMALL, "in_channels": 1}
TARGETS = (0.25, 0.45, 0.65)
CANDIDATES = 50
NEAR = 0.025
RESIZING = [0, 2, 5]
"""Sites of the layers that resize."""

Floats = NDArray[np.float64]


# -- truth -------------------------------------------------------------------------------------------------------------


def truths(data: Path | None) -> dict[str, tuple[Floats, Floats]]:
    """Return accuracy in percent and cost in millions of multiply-adds of all chains, by table."""
    rows = MACRO.all()
    found: dict[str, tuple[Floats, Floats]] = {}
    if data is not None:
        path = next((p for p in (data, data / "nasbench_macro") if (p / "nas-bench-macro_cifar10.json").exists()), None)
        if path is None:
            raise InputError(f"{data} holds no nas-bench-macro_cifar10.json")
        (imported,) = import_macro(path / "nas-bench-macro_cifar10.json", ImportOptions())
        accuracy = np.empty(len(rows))
        accuracy[MACRO.index(imported.table.genotypes)] = 100 * np.asarray(imported.table.columns["test"]).mean(axis=1)
        found["nasbench-macro-cifar10"] = accuracy, complexity.flops(MACRO, rows) / 1e6
    try:
        table = open_benchmark("digits-macro")
    except InputError as error:
        print(f"digits-macro is left out: {error}")
    else:
        accuracy = 100 * table.seed_values(rows, "test", 6).mean(axis=1)
        found["digits-macro"] = accuracy, complexity.flops(MACRO, rows, size=8, **DIGITS) / 1e6
    return found


# -- searches ----------------------------------------------------------------------------------------------------------


def run(
    table: str, accuracy: Floats, costs: Floats, share: float, seed: int, epochs: int | None, peer: bool, folder: Path
) -> Any:
    """Return what one search found, and what chains of equal cost are worth."""
    rows = MACRO.all()
    kept = (rows[:, RESIZING] > 0).all(axis=1)
    target = float(costs[kept].min() + share * (costs[kept].max() - costs[kept].min()))
    model = Lookup(space=MACRO).fit(rows, costs)
    with one_thread():
        torch.set_num_threads(1)
        space = affordable(MACRO, model, target)
        more = {"epochs": epochs} if epochs else {}
        strategy = SinglePathNAS(space=space, folder=str(folder), **more)
        begun = time.process_time()
        stage = strategy.run(seed).selection(strategy.run(seed).stages - 1)
        seconds = time.process_time() - begun
        assert stage is not None
        found = int(MACRO.index(stage.ranking[:1])[0])
        near = np.abs(costs / costs[found] - 1) <= NEAR
        data = halves(load_images("digits"), share=strategy.share)
        other = spos(data, rows[near & kept], strategy.run(seed).stages, seed) if peer else None
    row = {
        "table": table,
        "share": share,
        "seed": seed,
        "target": target,
        "cost": float(costs[found]),
        "lambda": stage.facts["lambda"],
        "architecture": MACRO.to_string(rows[[found]])[0],
        "decided": stage.facts["decided"],
        "accuracy": float(accuracy[found]),
        "random": float(accuracy[near].mean()),
        "kept": float(accuracy[near & kept].mean()),
        "best": float(accuracy[near].max()),
        "search_cpu_s": seconds,
    }
    return row if other is None else row | {"spos": float(accuracy[MACRO.index(other[None])[0]])}


class Paths(nn.Module):
    """A layer of separate operations: their mixture, or the one named by ``path``."""

    def __init__(self, operations: list[nn.Module]):
        super().__init__()
        self.operations = nn.ModuleList(operations)
        self.logits = nn.Parameter(torch.zeros(len(operations)))
        self.path: int | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.path is not None:
            return self.operations[self.path](x)  # type: ignore[no-any-return]
        weights = torch.softmax(self.logits, dim=0)
        return reduce(torch.add, (w * f(x) for w, f in zip(weights, self.operations, strict=True)))


def separate(space: Space, **sizes: Any) -> nn.Module:
    """Return a supernet in which every choice of a layer has weights of its own."""
    if isinstance(space, NASBenchMacro):
        names = nasbench_macro.OPERATIONS
        layers = [lambda c, o, s: Paths([nasbench_macro.operation(name, c, o, s) for name in names])] * 8
        return nasbench_macro.Skeleton(layers, **sizes)
    assert isinstance(space, single_path.SinglePath)

    def layer(skippable: bool) -> nasbench_macro.Layer:
        def make(c: int, o: int, s: int) -> nn.Module:
            blocks: list[nn.Module] = [
                InvertedResidual(c, o, s, kernel=block.kernel, expansion=block.expansion) for block in space.blocks
            ]
            return Paths([*blocks, nn.Identity()] if skippable else blocks)

        return make

    skeleton = SinglePathSizes(**{**vars(SINGLE_PATH_SIZES[space.name]), **sizes})
    return single_path.Skeleton([layer(p.size > len(space.blocks)) for p in space.parameters], skeleton)


def spos(data: Halves, among: Genotypes, epochs: int, seed: int) -> NDArray[np.int64]:
    """Return the best of some chains by weights that one random path a step has trained."""
    with seeded(seed):
        net = separate(MACRO, **DIGITS, classes=10).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    layers = [part for part in net.modules() if isinstance(part, Paths)]
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-5)
    rng = np.random.default_rng([seed, 9])

    def walk(row: NDArray[np.int64]) -> None:
        for layer, code in zip(layers, row, strict=True):
            layer.path = int(code)

    for epoch in range(epochs):
        for group in optimizer.param_groups:
            group["lr"] = 0.025 * (1 + math.cos(math.pi * epoch / epochs))
        for images, labels in data.weights.batches(64, [seed, 1, epoch]):
            path = MACRO.sample(1, rng)[0]
            path[RESIZING] = rng.integers(1, 3, size=len(RESIZING))
            walk(path)
            optimizer.zero_grad(set_to_none=True)
            logits = net(images.contiguous(memory_format=torch.channels_last))
            F.cross_entropy(logits, labels, label_smoothing=0.1).backward()
            nn.utils.clip_grad_norm_(net.parameters(), 5.0)
            optimizer.step()
    looked = among[rng.permutation(len(among))[:CANDIDATES]]
    worth = []
    for row in looked:
        walk(row)
        recalibrate(net, data.weights.images.split(64)[:4])
        with torch.no_grad():
            logits = torch.cat([net(images) for images, _ in data.selection.chunks(512)])
        right = (logits.argmax(dim=1) == data.selection.labels).float().mean()
        worth.append(float(right) - 1e-6 * float(F.cross_entropy(logits, data.selection.labels)))
    return looked[int(np.argmax(worth))]


def told(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Print a line a table and target, one a table over all; return those."""
    heading = (
        "target",
        "cost",
        "single-path",
        "spos",
        "random",
        "kept",
        "best",
        "above random",
        "95 %",
        "above kept",
        "95 %",
        "in 5 %",
        "decided",
    )
    widths = (14, 14, 14, 14, 14, 14, 14, 14, 16, 14, 16, 8, 9)
    print(f"\n{'table':<24}" + "".join(f"{one:>{width}}" for one, width in zip(heading, widths, strict=True)))
    rows = []
    tables = sorted({one["table"] for one in runs})
    for table in tables:
        shares = sorted({one["share"] for one in runs if one["table"] == table})
        for share in [*shares, None]:
            part = [one for one in runs if one["table"] == table and share in (one["share"], None)]

            def column(key: str, part: list[dict[str, Any]] = part) -> Floats:
                return np.array([one.get(key, math.nan) for one in part])

            def above(key: str, part: list[dict[str, Any]] = part, shares: Any = shares) -> tuple[float, list[float]]:
                """Return the mean difference to a column, and its interval: over seeds, within each target."""
                gains = [
                    np.array([one["accuracy"] - one.get(key, math.nan) for one in part if one["share"] == at])
                    for at in shares
                ]
                gains = [gain for gain in gains if len(gain)]
                return float(np.mean([gain.mean() for gain in gains])), list(stratified_ci(gains))

            hit = float(((column("cost") <= column("target")) & (column("cost") >= 0.95 * column("target"))).mean())
            row = {
                "table": table,
                "target": float(column("target").mean()) if share is not None else None,
                "cost": float(column("cost").mean()),
                **{key: float(column(key).mean()) for key in ("accuracy", "spos", "random", "kept", "best")},
                **{f"above_{key}": above(key)[0] for key in ("random", "kept", "spos")},
                **{f"above_{key}_ci95": above(key)[1] for key in ("random", "kept", "spos")},
                "decided": float(np.mean([one["decided"] == one["architecture"] for one in part])),
                "within_5pct": hit,
                "runs": len(part),
            }
            rows.append(row)
            label = f"{row['target']:.4g}" if share is not None else "all"
            print(f"{table if share == shares[0] else '':<24}{label:>14}{row['cost']:>14.4g}"
                  + "".join(f"{row[key]:>14.3f}" for key in ("accuracy", "spos", "random", "kept", "best"))
                  + "".join(f"{row[f'above_{key}']:>14.3f}{interval(row[f'above_{key}_ci95']):>16}"
                            for key in ("random", "kept"))
                  + f"{hit:>8.0%}{row['decided']:>9.0%}")  # fmt: skip
    return rows


def interval(ends: list[float]) -> str:
    return f"{ends[0]:.3f}, {ends[1]:.3f}"


def draw(runs: list[dict[str, Any]], tables: dict[str, tuple[Floats, Floats]], path: Path) -> None:
    """Write what was found in the cloud of all chains as one picture, a panel a table."""
    try:
        import matplotlib
    except ModuleNotFoundError:
        print("no matplotlib, no picture")
        return
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(tables), figsize=(5 * len(tables), 3.6), layout="constrained", squeeze=False)
    for axis, (table, (accuracy, costs)) in zip(axes[0], tables.items(), strict=True):
        axis.scatter(costs, accuracy, s=1, color="#c9d3d9", label="all chains", rasterized=True)
        for key, colour, mark in (("spos", "#00798c", "x"), ("accuracy", "#d1495b", "o")):
            part = [one for one in runs if one["table"] == table and key in one]
            label = "single-path" if key == "accuracy" else key
            points = [[one["cost"] for one in part], [one[key] for one in part]]
            axis.scatter(*points, s=22, color=colour, marker=mark, lw=1, label=label)
        for target in sorted({one["target"] for one in runs if one["table"] == table}):
            axis.axvline(target, color="#666", lw=0.7, ls=":")
        axis.set_ylim(np.quantile(accuracy, 0.05), accuracy.max() + 0.1)
        axis.set_title(f"{table}; targets dotted", fontsize=10)
        axis.set_xlabel("multiply-adds, millions")
        axis.spines[["top", "right"]].set_visible(False)
    axes[0][0].set_ylabel("test accuracy of the table, %")
    axes[0][-1].legend(frameon=False, fontsize=9, loc="lower right")
    figure.savefig(path, dpi=110)
    plt.close(figure)


# -- what supernets cost -----------------------------------------------------------------------------------------------

CASES: dict[str, tuple[Space, dict[str, Any], tuple[int, int, int, int]]] = {
    "single-path-imagenet": (SinglePathImageNet(), {}, (4, 3, 64, 64)),
    "single-path-digits": (SinglePathDigits(), {}, (64, 1, 8, 8)),
    "nasbench-macro": (MACRO, {"stem": 16, "width": 256, "classes": 10}, (16, 3, 32, 32)),
}


KINDS = ("single", "separate", "one path")


class Training:
    """A supernet and its optimisers, and what a step of training is."""

    def __init__(self, case: str, kind: str):
        space, sizes, shape = CASES[case]
        with seeded(0):
            net = single_path.Supernet(space, **sizes) if kind == "single" else separate(space, **sizes)
        self.net = net.to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
        images = torch.randn(shape, generator=torch.Generator().manual_seed(0))
        self.images = images.contiguous(memory_format=torch.channels_last)
        self.labels = torch.arange(shape[0]) % 10
        self.price: Price | None = None
        self.rng = np.random.default_rng(0) if kind == "one path" else None
        weights = self.net.parameters()
        if isinstance(self.net, single_path.Supernet):
            given = {"classes": 10, "in_channels": shape[1], **sizes} if space.name != "single-path-imagenet" else {}
            self.price = Price(space, lambda rows: complexity.flops(space, rows, size=shape[-1], **given) / 1e6)
            self.thresholds = torch.optim.Adam(self.net.thresholds(), lr=0.02, foreach=True)
            weights = self.net.weights()
        self.weights = torch.optim.SGD(list(weights), lr=0.01, momentum=0.9, foreach=True)

    def step(self) -> None:
        if self.rng is not None:
            for part in self.net.modules():
                if isinstance(part, Paths):
                    part.path = int(self.rng.integers(len(part.operations)))
        loss = F.cross_entropy(self.net(self.images), self.labels, label_smoothing=0.1)
        if self.price is not None:
            loss = loss + torch.log(self.price.expected(self.net.choices()))
            self.thresholds.zero_grad(set_to_none=True)
        self.weights.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.net.parameters(), 5.0)
        self.weights.step()
        if self.price is not None:
            self.thresholds.step()


def kept_for_backward(net: nn.Module, images: Tensor) -> int:
    """Return the bytes that a forward pass keeps, each tensor once, weights left out."""
    storages = {}
    weights = {p.untyped_storage().data_ptr() for p in net.parameters()}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        out = net(images)
    del out
    return sum(storages.values())


def peak(case: str, kind: str) -> float:
    """Return by how many MB steps raise the peak memory of a process of their own."""
    command = [sys.executable, str(Path(__file__).resolve()), "--peak", case, kind]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def own_peak(case: str, kind: str) -> None:
    torch.set_num_threads(1)
    torch.nn.functional.conv2d(torch.zeros(1, 1, 8, 8), torch.zeros(1, 1, 3, 3))
    # Linux: the high-water mark so far is that of importing torch, and of the parent; begin it anew.
    Path("/proc/self/clear_refs").write_text("5")
    before = resident("VmRSS")
    training = Training(case, kind)
    for _ in range(3):
        training.step()
    print(resident("VmHWM") - before)


def resident(name: str) -> float:
    """Return a line of this process's memory, in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(name)) / 1024


def supernets(rounds: int) -> list[dict[str, Any]]:
    """Print what each kind of supernet costs, step by step in turns; return the rows."""
    print(f"\n{'supernet':<24}{'':>10}{'parameters':>14}{'kept MB':>10}{'step ms':>10}{'peak MB':>10}")
    rows = []
    torch.set_num_threads(1)
    for case in CASES:
        trainings = {kind: Training(case, kind) for kind in KINDS}
        times: dict[str, list[float]] = {kind: [] for kind in KINDS}
        for turn in range(rounds + 2):
            for kind, training in trainings.items():
                begun = time.process_time()
                training.step()
                if turn >= 2:
                    times[kind].append(time.process_time() - begun)
        row: dict[str, Any] = {"space": case, "images": list(CASES[case][2])}
        for kind, training in trainings.items():
            row[kind] = {
                "parameters": count_params(training.net),
                "kept_mb": kept_for_backward(training.net, training.images) / 2**20,
                "step_ms": 1e3 * float(np.median(times[kind])),
                "peak_mb": peak(case, kind),
            }
            cells = row[kind]
            print(f"{case if kind == 'single' else '':<24}{kind:>10}{cells['parameters']:>14,}{cells['kept_mb']:>10.1f}"
                  f"{cells['step_ms']:>10.1f}{cells['peak_mb']:>10.0f}")  # fmt: skip
        for other in KINDS[1:]:
            ratio = {key: row["single"][key] / row[other][key] for key in row["single"]}
            row[f"ratio to {other}"] = ratio
            print(f"{'single / ' + other:>34}{ratio['parameters']:>14.2f}{ratio['kept_mb']:>10.2f}"
                  f"{ratio['step_ms']:>10.2f}{ratio['peak_mb']:>10.2f}")  # fmt: skip
        rows.append(row)
    return rows


def judged(rows: list[dict[str, Any]], costs: list[dict[str, Any]]) -> bool:
    """Print what was asked for and whether it is met; both tables have to be here."""
    asked = []
    print()
    for row in rows:
        if row["target"] is None:
            for key in ("random", "kept"):
                sure = row[f"above_{key}_ci95"][0] > 0
                asked.append(sure)
                print(f"{row['table']}: above {key} at equal cost by {row[f'above_{key}']:.3f} points, interval clear "
                      f"of zero: {yes(sure)}")  # fmt: skip
            asked.append(row["within_5pct"] >= 0.9)
            print(f"{row['table']}: {row['within_5pct']:.0%} of selections within 5 % of the target, at least 90 %: "
                  f"{yes(asked[-1])}")  # fmt: skip
    for row in costs:
        ratio = row["ratio to separate"]
        asked += [ratio["parameters"] <= 0.55, ratio["step_ms"] <= 0.6]
        print(f"{row['space']}: {ratio['parameters']:.2f} of the parameters of separate paths, at most 0.55: "
              f"{yes(asked[-2])}; {ratio['step_ms']:.2f} of a step's time, at most 0.6: {yes(asked[-1])}")  # fmt: skip
    return all(asked) and len({row["table"] for row in rows}) == 2


def yes(met: bool) -> str:
    return "met" if met else "missed"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder with NAS-Bench-Macro's JSON")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first", type=int, default=200, help="first seed")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--epochs", type=int, help="of each search; the strategy's own if left out")
    parser.add_argument("--targets", nargs="+", type=float, default=TARGETS, help="shares of the range of costs")
    parser.add_argument("--out", type=Path, default=Path("single_path"))
    parser.add_argument("--quick", action="store_true", help="one seed, one target, few epochs: too few to judge")
    parser.add_argument("--peak", nargs=2, metavar=("SUPERNET", "KIND"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peak:
        own_peak(*options.peak)
        return 0
    options.out.mkdir(parents=True, exist_ok=True)
    if options.quick:
        options.seeds, options.targets, options.epochs = 1, (0.45,), 2
    tables = truths(options.data)
    seeds = range(options.first, options.first + options.seeds)
    tasks = [
        (table, *truth, share, seed, options.epochs, not options.quick, options.out / "runs")
        for seed in seeds
        for table, truth in tables.items()
        for share in options.targets
    ]
    remembered = Memory(options.out / "kept", verbose=0).cache(run, ignore=["folder"])
    runs = Parallel(n_jobs=options.jobs)(delayed(remembered)(*task) for task in tasks)
    rows = told(runs)
    costs = supernets(3 if options.quick else 20)
    met = judged(rows, costs)
    print(
        "\nPublished, ImageNet: 74.96 % top-1 at 79.48 ms on a Pixel 1, search in 8 epochs; random nets of the space "
        "73.78 % at 77.31 ms (quoted by a third party). Its winner by our table: 80.44 ms, 4,421,616 parameters."
    )
    summary = {"rows": rows, "runs": runs, "supernets": costs, "environment": environment()}
    (options.out / "summary.json").write_text(json.dumps(summary, indent=1) + "\n")
    draw(runs, tables, options.out / "single_path.png")
    return 0 if met or options.quick else 1


if __name__ == "__main__":
    sys.exit(main())
