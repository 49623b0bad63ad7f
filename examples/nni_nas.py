"""A nasplug strategy explores NNI's model space, then NNI's own benchmark code answers from our table.

Needs nasplug[nni-nas,tables].
"""

import logging
from pathlib import Path

import nni
import nni.nas.nn.pytorch as mutable
import torch
from nni.nas.benchmark import BenchmarkModelSpace, NasBench201Benchmark
from nni.nas.evaluator import FunctionalEvaluator
from nni.nas.execution import SequentialExecutionEngine
from nni.nas.experiment import NasExperiment, NasExperimentConfig

from nasplug.benchmarks import open_benchmark
from nasplug.plugins.nni.benchmark_db import export_database, use_database
from nasplug.plugins.nni.nas import NasStrategy

logging.getLogger("nni").setLevel(logging.WARNING)


class Net(mutable.ModelSpace):
    """Which activation, and how wide."""

    def __init__(self) -> None:
        super().__init__()
        width = nni.choice("width", [4, 8, 16, 32])
        self.first = mutable.MutableLinear(2, width)
        self.act = mutable.LayerChoice({"relu": torch.nn.ReLU(), "tanh": torch.nn.Tanh()}, label="act")
        self.last = mutable.MutableLinear(width, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.act(self.first(x)))


def train(model: torch.nn.Module) -> None:
    torch.manual_seed(0)
    x = torch.rand(256, 2) * 2 - 1
    y = (x[:, :1] * x[:, 1:]).sign()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    for _ in range(100):
        optimizer.zero_grad()
        torch.nn.functional.soft_margin_loss(model(x), y).backward()
        optimizer.step()
    nni.report_final_result(float((model(x).sign() == y).float().mean()))


# 1. An experiment as NNI's documentation has it, with our strategy in the place of RegularizedEvolution().
config = NasExperimentConfig(execution_engine="sequential", model_format="raw")
config.max_trial_number = 6
config.experiment_working_directory = "nni-experiments"
experiment = NasExperiment(Net(), FunctionalEvaluator(train), NasStrategy("weaknas", seed=0), config=config)
experiment.run()
best = experiment.export_top_models(formatter="dict", top_k=1)
print(f"best of 6 networks: {best[0]}")

# 2. NNI's own benchmark code on our table, with no download.
database = Path("nasbench201.db")
export_database({"cifar100": open_benchmark("nasbench201-cifar100")}, database, mean=True)
use_database(database)
strategy = NasStrategy("weaknas", space="nasbench201", seed=0)
space = BenchmarkModelSpace(NasBench201Benchmark(dataset="cifar100"))
strategy(space, SequentialExecutionEngine(max_model_count=50))
(found,) = strategy.list_models(limit=1)
print(f"best of 50 cells of NAS-Bench-201: {found.metric:.4f}, {found.sample}")
