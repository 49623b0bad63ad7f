"""DNAL on digits: accuracy against parameters and FLOPs, beside what else makes a network narrow; latency; the paper.

    python benchmarks/reproduce/dnal.py [--seeds 5] [--jobs 2] [--data DIR --images cifar10] [--out DIR] [--quick]

A VGG-, a ResNet- and a MobileNetV2-shaped network (spaces vgg-widths, resnet-widths, mobilenet-widths) are trained for
30 epochs on 880 digits; then they are made narrow, to at most 1/2, 1/4, 1/8 and 1/16 of their parameters, and trained
for 20 epochs more. All but ``uniform`` see the same images in the same order.

    full       the full network, trained for the 20 epochs more as well; after the first 30 it is "full, 30 epochs"
    dnal       10 epochs of gates alone, budget on parameters (dnal flops: on FLOPs); then 20 of the slim network
    dnal x16   the same where widths differ from the full ones by multiples of 16 (WidthSpace's ``multiple``), which
               ONNX Runtime's blocks of channels ask for; at 1/4
    l1         every layer to the same share of its width, filters with the largest L1 norm (torch.nn.utils.prune) over
               all weights of a group: of convolutions that share gates, and of a depthwise one the convolution before
               it (after Li et al., Pruning Filters for Efficient ConvNets, ICLR 2017)
    random     layers to random shares, scaled until the size is right, filters as l1
    uniform    every layer to the same share of its width, from scratch: 30 + 20 epochs

The peers' widths are as large as the size allows when rounded; dnal fills what is left by single channels. Parameters
are equal; multiply-adds are printed, and are not. The rows "lambda" are DNAL as published: a penalty on the count of
channels, no budget. Intervals are bootstraps over seeds, of differences paired by seed.

Seeds from 100 on are for choosing defaults, and are shown accuracies on 220 images of the selection half only. Reported
are seeds 0, 1, 2, ..., on 697 test images. Earlier versions of the defaults were looked at on these test images, too,
with seed 100.

Latency: full and slim networks (25 % of the parameters, by dnal and dnal x16, first seed) in turns, in this process,
one thread, in batches of 256 and one by one, by torch and, exported, by ONNX Runtime; what is asked for is a speed-up
of at least 0.6 of that of the FLOPs, in batches.

With --images cifar10 --data DIR (torchvision's folders) the networks are shaped as VGG16, ResNet56 and MobileNetV2,
with 14.7, 0.85 and 2.2 million parameters; penalties are from the paper's table for CIFAR-10, epochs those that it
gives for ImageNet's VGG16, the schedule a cosine from 0.1. That takes a GPU (--device cuda) and was never run. The
paper's table is printed beside either way.

Finished networks are kept under OUT/kept: the same command goes on where it was interrupted.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from joblib import Memory, Parallel, delayed
from numpy.typing import NDArray
from torch import nn
from torch.nn.utils import prune

from nasplug.benchmarks.environment import environment
from nasplug.benchmarks.statistics import bootstrap_ci
from nasplug.errors import TrainingError
from nasplug.images import load_images
from nasplug.spaces.modules import convnets
from nasplug.spaces.modules.counting import count_multiply_adds, count_params
from nasplug.spaces.modules.gating import Gated
from nasplug.spaces.modules.onnx_files import write_onnx
from nasplug.spaces.modules.seeding import seeded
from nasplug.spaces.modules.slimming import slimmed
from nasplug.strategies.supernet.channel_gates import Aim, Gating, Phases, space_of
from nasplug.strategies.supernet.data import Part, halves, report_part

Build = Callable[..., nn.Module]
BUDGETS = (1 / 2, 1 / 4, 1 / 8, 1 / 16)
PENALTIES = (3e-3, 1e-2, 3e-2)
PEERS = ("l1", "random", "uniform")
CHOOSING = 100
"""The first seed that is for choosing defaults."""

WITHIN, SHARE_OF_FLOPS = 0.005, 0.6
WARM_UPS, TURNS = 3, 30
EVEN = 16
"""Channels that widths differ by in "dnal x16"."""

DIGITS: dict[str, Build] = {"vgg": convnets.vgg, "resnet": convnets.resnet, "mobilenet": convnets.mobilenet}


def _cifar_vgg(widths: Any = None, **options: Any) -> nn.Module:
    plan = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
    return convnets.vgg(widths, plan=plan, **options)


def _cifar_resnet(widths: Any = None, **options: Any) -> nn.Module:
    return convnets.resnet(widths, plan=((16, 9), (32, 9), (64, 9)), **options)


def _cifar_mobilenet(widths: Any = None, **options: Any) -> nn.Module:
    plan = ((1, 16, 1, 1), (6, 24, 2, 1), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
    return convnets.mobilenet(widths, plan=plan, ends=(32, 1280), **options)


CIFAR: dict[str, Build] = {"vgg": _cifar_vgg, "resnet": _cifar_resnet, "mobilenet": _cifar_mobilenet}

PAPER = {
    "vgg": "VGG16 93.77 (313.47 M, 14.99 M)",
    "resnet": "ResNet56 94.15 (125.49 M, 0.85 M)",
    "mobilenet": "MobileNetV2 94.31 (91.17 M, 2.30 M)",
}
PAPER_ROWS = (
    ("1e-5", "93.82 (211.89, 5.51)", "93.76 (93.94, .66)", "94.17 (59.47, 1.43)"),
    ("5e-5", "93.53 (195.14, 3.73)", "93.75 (83.11, .59)", "94.30 (54.98, 1.20)"),
    ("1e-4", "93.75 (161.97, 2.10)", "93.20 (36.94, .25)", "94.01 (36.63, .65)"),
    ("2e-4", "92.33 (61.23, .60)", "89.31 (8.63, .060)", "91.96 (13.35, .20)"),
    ("3e-4", "89.93 (29.77, .29)", "85.83 (3.44, .022)", "90.65 (7.81, .12)"),
    ("4e-4", "89.92 (22.04, .24)", "84.07 (2.38, .013)", "88.83 (5.40, .096)"),
    ("5e-4", "89.27 (16.65, .17)", "83.48 (1.68, .007)", "87.85 (4.50, .081)"),
)


# -- one network, one seed ---------------------------------------------------------------------------------------------


class Bench:
    """A network of one shape and seed, trained in full once, then made narrow in every way."""

    def __init__(self, options: argparse.Namespace, shape: str, seed: int):
        torch.set_num_threads(1)
        self.options, self.shape, self.seed = options, shape, seed
        self.images = load_images(options.images, Path(options.data) if options.data else None)
        self.data = halves(self.images, share=0.8, device=options.device)
        self.build = (DIGITS if options.images == "digits" else CIFAR)[shape]
        self.side = self.data.side
        self.phases = phases(options)
        self.full = self.training(Aim(budget=1.0, cost="params"), self.fresh())
        for _ in range(self.phases.weight_epochs):
            self.full.advance()
        self.early = self.row(slimmed(self.full.gated, self.full.gated.open_masks()))
        self.size = self.full.gated.cost(self.full.gated.open_masks())

    def fresh(self, widths: NDArray[np.int64] | None = None) -> nn.Module:
        with seeded(self.seed):
            return self.build(widths, classes=self.data.classes, in_channels=self.data.channels)

    def training(self, aim: Aim, net: nn.Module, phases: Phases | None = None, multiple: int = 1) -> Gating:
        gated = Gated(net, (self.data.channels, self.side, self.side))
        space = space_of(gated, self.shape, multiple=multiple)
        return Gating(gated, space, self.data, phases or self.phases, aim, self.seed)

    def trained(self, aim: Aim, multiple: int = 1) -> Gating:
        """Return a method that has the full network's weights, and goes on with the gates."""
        method = self.training(aim, self.fresh(), multiple=multiple)
        method.restore(copy.deepcopy(self.full.state()))
        return method

    # -- ways to be narrow ---------------------------------------------------------------------------------------------

    def dnal(self, aim: Aim, multiple: int = 1) -> dict[str, Any]:
        started = time.process_time()
        method = self.trained(aim, multiple)
        facts: dict[str, Any] = {}
        while method.done < method.stages:
            facts = dict(method.advance().facts)
            if facts["phase"] == "gates":
                undecided, before = facts["undecided"], facts["valid"]
        self.last = method
        told = {"undecided": undecided, "before_tuning": before, "channels": facts["channels"]}
        return self.row(method.network, time.process_time() - started) | told

    def pruned(self, how: str, budget: float) -> dict[str, Any]:
        """Narrow by filter norms, uniformly or at random, and fine-tune as DNAL does."""
        method = self.trained(Aim(budget=budget, cost="params"))
        rng = np.random.default_rng([self.seed, round(1 / budget)])
        full = np.array([len(scores) for scores in method.gated.scores()])
        shares = rng.uniform(0.1, 1.0, len(full)) if how == "random" else np.ones(len(full))
        counts = fitting(
            lambda c: method.gated.cost(masks(method.gated, c)).params, full, shares, budget * self.size.params
        )
        method.prune(masks(method.gated, counts))
        while method.done < method.stages:
            method.advance()
        return self.row(method.network) | {"channels": counts.tolist()}

    def uniform(self, budget: float) -> dict[str, Any]:
        """Train a uniformly narrow network from scratch, as long as everything else."""
        full = np.array([len(scores) for scores in self.full.gated.scores()])

        def params(counts: NDArray[np.int64]) -> int:
            return count_params(self.build(counts, classes=self.data.classes, in_channels=self.data.channels))

        counts = fitting(params, full, np.ones(len(full)), budget * self.size.params)
        longer = replace(self.phases, weight_epochs=self.phases.weight_epochs + self.phases.tuning_epochs)
        method = self.training(Aim(budget=1.0, cost="params"), self.fresh(counts), longer)
        for _ in range(longer.weight_epochs):
            method.advance()
        slim = slimmed(method.gated, method.gated.open_masks())
        return self.row(slim) | {"channels": counts.tolist()}

    def row(self, net: nn.Module, cpu_s: float | None = None) -> dict[str, Any]:
        params, flops = count_params(net), count_multiply_adds(net, (self.data.channels, self.side, self.side))
        choosing = self.seed >= CHOOSING
        part = self.data.selection if choosing else report_part(self.images, device=self.options.device)
        row = {"test": accuracy(net, part), "split": part.name, "params": params, "flops": flops}
        return row if cpu_s is None else row | {"cpu_s": cpu_s}

    def rows(self) -> list[dict[str, Any]]:
        """Return one row a way and size."""
        whole = self.trained(Aim(budget=1.0, cost="params"))
        whole.prune(whole.gated.open_masks())
        while whole.done < whole.stages:
            whole.advance()
        open_net = whole.network
        found = [
            {"way": "full", "aim": 1.0, **self.row(open_net)},
            {"way": "full, 30 epochs", "aim": 1.0, **self.early},
        ]
        networks = None
        for budget in self.options.budgets:
            found.append({"way": "dnal", "aim": budget, **self.dnal(Aim(budget=budget, cost="params"))})
            if budget == 1 / 4 and self.seed == self.options.first:
                networks = (open_net, self.last.network)
            for how in ("l1", "random"):
                found.append({"way": how, "aim": budget, **self.pruned(how, budget)})
            found.append({"way": "uniform", "aim": budget, **self.uniform(budget)})
        if not self.options.quick:
            found.append({"way": "dnal flops", "aim": 1 / 4, **self.dnal(Aim(budget=1 / 4, cost="flops"))})
        for penalty in self.options.penalties:
            try:
                found.append({"way": "lambda", "aim": penalty, **self.dnal(Aim(penalty=penalty))})
            except TrainingError as error:
                found.append({"way": "collapsed", "aim": penalty, "says": str(error)} | self.row(open_net))
        if networks is not None:
            kept = [net.to("cpu") for net in networks]
            torch.save(kept, self.options.out / f"latency-{self.shape}.pt")
        return self.told(found)

    def even_rows(self) -> list[dict[str, Any]]:
        """Return the row of widths that differ from the full ones by multiples of 16."""
        found = {"way": f"dnal x{EVEN}", "aim": 1 / 4, **self.dnal(Aim(budget=1 / 4, cost="params"), EVEN)}
        if self.seed == self.options.first:
            torch.save(self.last.network.to("cpu"), self.options.out / f"latency-{self.shape}-x{EVEN}.pt")
        return self.told([found])

    def told(self, found: list[dict[str, Any]]) -> list[dict[str, Any]]:
        for row in found:
            row |= {"shape": self.shape, "seed": self.seed}
            row |= {"params_share": row["params"] / self.size.params, "flops_share": row["flops"] / self.size.flops}
        return found


def phases(options: argparse.Namespace) -> Phases:
    if options.quick:
        return Phases(2, 4, 2)
    if options.images == "digits":
        return Phases(30, 10, 20)
    return Phases(30, 10, 70, batch_size=128, learning_rate=0.1, tuning_rate=0.05, weight_decay=1e-4)


def masks(gated: Gated, counts: NDArray[np.int64]) -> dict[str, NDArray[np.bool_]]:
    """Return the masks of the filters with the largest L1 norms, over all that has a row for a channel of the group."""
    found = {}
    for group, count in zip(gated.groups, counts, strict=True):
        rows = []
        for layer in group.layers:
            (node,) = [one for one in gated.flow.nodes if one.target == layer]
            while gated.flow.kinds[node] != "conv":
                (node,) = gated.flow.operands(node)
                if gated.flow.kinds[node] in ("conv", "depthwise"):
                    rows.append(gated.flow.module(node).get_parameter("weight").detach().flatten(1))
        weight = torch.cat(rows, dim=1)
        method = prune.LnStructured(amount=group.channels - int(count), n=1, dim=0)
        mask = weight.new_ones(weight.shape)
        mask = method.compute_mask(weight, mask) if count < group.channels else mask
        found[group.name] = mask[:, 0].bool().cpu().numpy()
    return found


def fitting(
    cost: Callable[[NDArray[np.int64]], int], full: NDArray[np.int64], shares: NDArray[np.float64], most: float
) -> NDArray[np.int64]:
    """Return the widest counts, proportional to ``shares`` of the full widths, that cost at most ``most``."""

    def counts(scale: float) -> NDArray[np.int64]:
        return np.clip(np.rint(scale * shares * full), 1, full).astype(np.int64)

    low, high = 0.0, 1 / shares.min()
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (middle, high) if cost(counts(middle)) <= most else (low, middle)
    return counts(low)


@torch.no_grad()
def accuracy(net: nn.Module, part: Part) -> float:
    """Return the accuracy on some images."""
    net.eval()
    logits = torch.cat([net(images) for images, _ in part.chunks(500)])
    return float((logits.argmax(dim=1) == part.labels).double().mean())


def bench(options: argparse.Namespace, shape: str, seed: int) -> list[dict[str, Any]]:
    return Bench(options, shape, seed).rows()


def even(options: argparse.Namespace, shape: str, seed: int) -> list[dict[str, Any]]:
    return Bench(options, shape, seed).even_rows()


# -- latency -----------------------------------------------------------------------------------------------------------


def runners(nets: dict[str, nn.Module], images: torch.Tensor) -> dict[tuple[str, str], Callable[[], object]]:
    """Return what runs each network on some images, by engine and name."""
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = settings.inter_op_num_threads = 1
    found: dict[tuple[str, str], Callable[[], object]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, net in nets.items():
            found["torch", name] = partial(net.eval(), images)
            file = Path(folder) / "network.onnx"
            write_onnx(net, file, (images.shape[1], images.shape[2], images.shape[3]))
            session = onnxruntime.InferenceSession(file.read_bytes(), settings, providers=["CPUExecutionProvider"])
            found["onnxruntime", name] = partial(session.run, None, {"images": images.numpy()})
    return found


def latency(nets: dict[str, nn.Module], shape: tuple[int, ...], batch: int) -> dict[tuple[str, str], float]:
    """Return the median milliseconds of each network by each engine, measured in turns."""
    torch.set_num_threads(1)
    images = torch.randn(batch, *shape, generator=torch.Generator().manual_seed(0))
    passes = max(1, 256 // batch // 8)
    took: dict[tuple[str, str], list[float]] = {}
    with torch.inference_mode():
        every = runners(nets, images)
        for turn in range(WARM_UPS + TURNS):
            for key, run in every.items():
                started = time.perf_counter()
                for _ in range(passes):
                    run()
                if turn >= WARM_UPS:
                    took.setdefault(key, []).append((time.perf_counter() - started) / passes * 1e3)
    return {key: float(np.median(values)) for key, values in took.items()}


def latencies(options: argparse.Namespace, image: tuple[int, int, int]) -> list[dict[str, Any]]:
    rows = []
    print(
        f"\n{'latency, 25 % of parameters':28} {'engine':11} batch   full ms   slim ms  speed-up  of FLOPs  share "
        "(asked: 0.6 of 256)"
    )
    for shape in options.shapes:
        paths = [options.out / f"latency-{shape}{end}.pt" for end in ("", f"-x{EVEN}")]
        if not all(path.exists() for path in paths):
            continue
        (full, slim), coarse = (torch.load(path, weights_only=False, map_location="cpu") for path in paths)  # ours
        nets = {"full": full, "dnal": slim, f"dnal x{EVEN}": coarse}
        flops = {name: count_multiply_adds(net, image) for name, net in nets.items()}
        for batch in (256, 1):
            found = latency(nets, image, batch)
            for engine in ("torch", "onnxruntime"):
                for name in list(nets)[1:]:
                    ratio, full_ms, slim_ms = flops["full"] / flops[name], found[engine, "full"], found[engine, name]
                    row = {"shape": shape, "way": name, "engine": engine, "batch": batch, "flops_ratio": ratio}
                    row |= {"full_ms": full_ms, "slim_ms": slim_ms, "speed_up": full_ms / slim_ms}
                    rows.append(row | {"share": full_ms / slim_ms / ratio})
                    print(
                        f"{f'{shape}, {name}':28} {engine:11} {batch:5} {full_ms:9.3f} {slim_ms:9.3f} "
                        f"{full_ms / slim_ms:9.2f} {ratio:9.2f} {full_ms / slim_ms / ratio:6.2f}"
                    )
    return rows


# -- tables ------------------------------------------------------------------------------------------------------------


def points(values: NDArray[np.float64]) -> str:
    low, high = bootstrap_ci(100 * values)
    return f"{100 * values.mean():+6.2f} [{low:+.2f}, {high:+.2f}]"


def report(rows: list[dict[str, Any]], shapes: list[str]) -> list[dict[str, Any]]:
    told = []
    for shape in shapes:
        mine = [row for row in rows if row["shape"] == shape]
        full = np.array([row["test"] for row in mine if row["way"] == "full"])
        split = mine[0]["split"]
        params, flops = (next(row[key] for row in mine if row["way"] == "full") for key in ("params", "flops"))
        print(f"\n{shape}: full network {100 * full.mean():.2f} % of the {split} images ({params:,} parameters, "
              f"{flops:,} multiply-adds)")  # fmt: skip
        print(f"{'way':15} {'aim':>7}  right %  parameters   FLOPs   points against full      dnal against it, points")
        lost = [row["aim"] for row in mine if row["way"] == "collapsed"]
        for way, aim in dict.fromkeys(
            (row["way"], row["aim"]) for row in mine if row["way"] not in ("full", "collapsed")
        ):
            if way == "lambda" and aim in lost:
                continue
            these = [row for row in mine if (row["way"], row["aim"]) == (way, aim)]
            test = np.array([row["test"] for row in these])
            dnal = np.array([row["test"] for row in mine if (row["way"], row["aim"]) == ("dnal", aim)])
            shares = [float(np.mean([row[key] for row in these])) for key in ("params_share", "flops_share")]
            versus = points(dnal - test) if way in PEERS else ""
            print(
                f"{way:15} {aim:7.4g}   {100 * test.mean():6.2f}  {shares[0]:9.1%}  {shares[1]:6.1%}   "
                f"{points(test - full)}   {versus}"
            )
            entry = {"shape": shape, "way": way, "aim": aim, "test": test.tolist(), "full": full.tolist()}
            entry |= {"params_share": shares[0], "flops_share": shares[1]}
            if way in PEERS:
                entry |= {"dnal_minus_it": (dnal - test).tolist(), "dnal_minus_it_ci95": bootstrap_ci(dnal - test)}
            told.append(entry)
        gates = {
            by: [
                row["undecided"] for row in mine if "undecided" in row and (row["way"] == "lambda") == (by == "lambda")
            ]
            for by in ("lambda", "budget")
        }
        for aim in dict.fromkeys(lost):
            times = f"{lost.count(aim)} of {len(full)} runs"
            print(f"{'lambda':15} {aim:7.4g}  collapsed the network, and said so, in {times}")
        print(
            f"gates between 0.1 and 0.9 when the last epoch ends: {sum(gates['lambda'])} in {len(gates['lambda'])} "
            f"runs by lambda, {sum(gates['budget'])} in {len(gates['budget'])} by budget, which then decides them all"
        )
    return told


def judged(told: list[dict[str, Any]], slow: list[dict[str, Any]], shapes: list[str]) -> bool:
    """Print what was asked for at a quarter of the parameters, and whether it is met."""
    met = []
    print("\nat 25 % of the parameters:")
    for entry in told:
        if entry["aim"] == 1 / 4 and entry["way"] == "dnal":
            gap = float(np.mean(entry["full"]) - np.mean(entry["test"]))
            met.append(gap <= WITHIN)
            print(f"  {entry['shape']}: {100 * gap:.2f} points below the full network, at most 0.5: {yes(met[-1])}")
        if entry["aim"] == 1 / 4 and entry["way"] in PEERS:
            mean, (low, high) = float(np.mean(entry["dnal_minus_it"])), entry["dnal_minus_it_ci95"]
            met.append(mean > 0)
            sure = "sure" if low > 0 else "worse for sure" if high < 0 else "the interval holds zero"
            sure = "no interval" if math.isnan(low) else sure
            print(f"  {entry['shape']}: above {entry['way']} by {100 * mean:.2f} points: {yes(met[-1])} ({sure})")
    for row in slow:
        if row["batch"] > 1:
            met.append(row["share"] >= SHARE_OF_FLOPS)
            where = f"{row['shape']}, {row['way']}, {row['engine']}"
            print(f"  {where}: speed-up {row['share']:.2f} of that of FLOPs, at least 0.6: {yes(met[-1])}")
    expected = {(shape, way) for shape in shapes for way in ("dnal", *PEERS)}
    complete = expected <= {(entry["shape"], entry["way"]) for entry in told if entry["aim"] == 1 / 4}
    return all(met) and complete and len(slow) == 8 * len(shapes)


def yes(met: bool) -> str:
    return "met" if met else "missed"


def paper() -> None:
    print("\nThe paper on CIFAR-10, top-1 % (FLOPs M, parameters M), from its repository:")
    print(f"{'lambda':8} " + " ".join(f"{name:34}" for name in PAPER.values()))
    for penalty, *cells in PAPER_ROWS:
        print(f"{penalty:8} " + " ".join(f"{cell:34}" for cell in cells))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first", type=int, default=0, help="first seed; 100 and on for choosing defaults")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--images", default="digits", choices=("digits", "cifar10"))
    parser.add_argument("--data", help="folder of the CIFAR files")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--shapes", nargs="+", default=list(DIGITS), choices=list(DIGITS))
    parser.add_argument("--budgets", nargs="+", type=float, default=BUDGETS, help="shares of the parameters")
    parser.add_argument("--penalties", nargs="*", type=float, help="lambdas of DNAL as published")
    parser.add_argument("--out", type=Path, default=Path("dnal"))
    parser.add_argument("--quick", action="store_true", help="one seed, one size, few epochs: too few to judge")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    options.budgets = (1 / 4,) if options.quick else tuple(options.budgets)
    if options.penalties is None:
        options.penalties = PENALTIES if options.images == "digits" else (1e-5, 1e-4, 3e-4)
    if options.quick:
        options.seeds, options.penalties = 1, ()
    started = time.perf_counter()
    seeds = range(options.first, options.first + options.seeds)
    tasks = [(shape, seed) for seed in seeds for shape in options.shapes]
    memory = Memory(options.out / "kept", verbose=0)
    asked = [(memory.cache(what), shape, seed) for what in (bench, even) for shape, seed in tasks]
    found = Parallel(n_jobs=options.jobs)(delayed(what)(options, shape, seed) for what, shape, seed in asked)
    rows = [row for part in found for row in part]
    image = load_images(options.images, Path(options.data) if options.data else None).train.images.shape[1:]
    told = report(rows, options.shapes)
    slow = latencies(options, (int(image[0]), int(image[1]), int(image[2])))
    met = judged(told, slow, options.shapes)
    paper()
    print(f"\n{time.perf_counter() - started:.0f} s with {options.jobs} jobs")
    summary = {"rows": told, "latency": slow, "environment": environment()}
    (options.out / "summary.json").write_text(json.dumps(summary, indent=1) + "\n")
    return 0 if met or options.quick else 1


if __name__ == "__main__":
    sys.exit(main())
