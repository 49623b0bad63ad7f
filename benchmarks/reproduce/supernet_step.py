"""What the supernet frame costs: a training step against a plain loop, one selection pass, and peak memory.

    python benchmarks/reproduce/supernet_step.py [--seeds 5] [--jobs 1] [--out DIR] [--quick]

The plain loop trains the same modules: it calls each operation of each edge and sums what comes out, with one optimizer
and nothing else. Rounds of both alternate in one process on one thread; the ratio is that of the medians, given for
each seed. A selection pass measures all five operations of one edge on the selection half. Peak memory is that of a
process of its own (Linux).
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import time
from functools import reduce
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nasplug.images import load_images
from nasplug.spaces import NASBench201
from nasplug.spaces.modules.nasbench201 import Cell
from nasplug.spaces.modules.supernets import supernet
from nasplug.strategies.supernet.data import Halves, halves
from nasplug.strategies.supernet.evaluation import evaluator
from nasplug.strategies.supernet.mixture import MixtureTraining, Recipe
from nasplug.strategies.supernet.selectors import Perturbation

RECIPE = Recipe(epochs=16)


class PlainEdge(nn.Module):
    """The operations of one edge, all weighing a fifth, without anything around them."""

    def __init__(self, operations: nn.ModuleList):
        super().__init__()
        self.operations = operations

    def forward(self, x: Tensor) -> Tensor:
        return reduce(torch.add, [operation(x) for operation in self.operations[1:]]) * 0.2  # none adds nothing


def plain_network(seed: int, data: Halves) -> nn.Module:
    """Return the body of a supernet with plain edges in the place of ours, and the same weights."""
    net = supernet(NASBench201(), classes=10, in_channels=data.channels, seed=seed, channels=8, cells=1).body
    for cell in (module for module in net.modules() if isinstance(module, Cell)):
        cell.edges = nn.ModuleList(PlainEdge(edge.operations) for edge in cell.edges)
    return net


def plain_epoch(net: nn.Module, optimizer: torch.optim.Optimizer, data: Halves, seed: int, epoch: int) -> None:
    """Train an epoch of the same batches."""
    for images, labels in data.weights.batches(64, [seed, 1, 0, epoch]):
        loss = F.cross_entropy(net(images), labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(net.parameters(), 5.0)
        optimizer.step()


def measured(seed: int, rounds: int) -> dict[str, float]:
    """Return seconds of a step, ours and plain, and of a selection pass."""
    data = halves(load_images("digits"))
    net = supernet(NASBench201(), classes=10, in_channels=data.channels, seed=seed, channels=8, cells=1)
    ours = MixtureTraining(net, data, RECIPE, seed, learn_logits=False)
    plain = plain_network(seed, data)
    optimizer = torch.optim.SGD(plain.parameters(), lr=0.025, momentum=0.9, weight_decay=3e-4, foreach=True)
    times: dict[str, list[float]] = {"ours": [], "plain": [], "pass": []}
    steps = len(data.weights) // 64
    for epoch in range(rounds):
        started = time.process_time()
        ours.epoch(0, epoch)
        middle = time.process_time()
        plain_epoch(plain, optimizer, data, seed, epoch)
        times["plain"].append((time.process_time() - middle) / steps)
        times["ours"].append((middle - started) / steps)
        started = time.process_time()
        Perturbation().operation(evaluator(net, data.selection), ours.mixture().detach(), epoch % 6, net.selectable[0])
        times["pass"].append(time.process_time() - started)
    medians = {name: float(np.median(values[2:])) for name, values in times.items()}
    return medians | {"ratio": medians["ours"] / medians["plain"]}


def peak_mb(what: str) -> float:
    """Return the peak memory in MB of a process that trains an epoch, or only imports what it would need."""
    done = subprocess.run([sys.executable, __file__, "--peak", what], capture_output=True, text=True, check=True)
    return float(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=1, help="accepted for uniformity; timings want the machine")
    parser.add_argument("--data", type=Path, help="accepted for uniformity; digits are built in")
    parser.add_argument("--out", type=Path, default=Path("supernet_step"))
    parser.add_argument("--quick", action="store_true", help="1 seed, few rounds")
    parser.add_argument("--peak", choices=("nothing", "ours", "plain"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.peak:
        data = halves(load_images("digits"))
        if options.peak == "ours":
            net = supernet(NASBench201(), classes=10, in_channels=1, seed=0, channels=8, cells=1)
            MixtureTraining(net, data, RECIPE, 0).epoch(0, 0)
        if options.peak == "plain":
            net = plain_network(0, data)
            plain_epoch(net, torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9, foreach=True), data, 0, 0)
        # Not getrusage: what that says of a child includes what its parent held.
        print(int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 1024)
        return
    rows = [
        measured(seed, 6 if options.quick else 25) | {"seed": seed}
        for seed in range(1 if options.quick else options.seeds)
    ]
    print("CPU milliseconds of a training step of 64 digits (NAS-Bench-201, C = 8, one cell a stage)")
    for row in rows:
        print(
            f"seed {row['seed']}: nasplug {1000 * row['ours']:.2f}, plain {1000 * row['plain']:.2f}, "
            f"ratio {row['ratio']:.3f}; one selection pass of an edge {1000 * row['pass']:.0f}"
        )
    memory = {what: peak_mb(what) for what in ("nothing", "ours", "plain")}
    print(
        f"peak memory: {memory['ours']:.0f} MB; of the plain loop {memory['plain']:.0f} MB; with the libraries and "
        f"images alone {memory['nothing']:.0f} MB"
    )
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "summary.json").write_text(json.dumps({"rows": rows, "peak_mb": memory}, indent=1) + "\n")


if __name__ == "__main__":
    main()
