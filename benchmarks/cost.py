"""Latencies that a benchmark holds, as a cost model: what a search under a budget is compared with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nasplug.benchmarks.base import Benchmark
from nasplug.cost_models.base import load_cost_model
from nasplug.cost_models.constraint import Predicts
from nasplug.spaces import Genotypes

__all__ = ["KnownCost", "cost_of"]


@dataclass(frozen=True)
class KnownCost:
    """A metric of a benchmark in place of predictions: the true costs, without error."""

    benchmark: Benchmark
    metric: str

    def predict(self, genotypes: Genotypes) -> NDArray[np.float64]:
        """Return the metric, ``(n,)``; raises like :meth:`Benchmark.query`."""
        return self.benchmark.query(genotypes, self.metric)

    def deviation(self, genotypes: Genotypes) -> NDArray[np.float64]:
        """Return zeros ``(n,)``."""
        return np.zeros(len(genotypes))


def cost_of(benchmark: Benchmark, model: str) -> Predicts:
    """Return what ``model`` names: a saved cost model, a file that ends in ``.npz``, or else one of its metrics.

    Raises: DataError for a file that is no cost model of the benchmark's space; UnknownNameError for a metric it does
        not hold.
    """
    if model.endswith(".npz"):
        return load_cost_model(Path(model), benchmark.space)
    benchmark.n_seeds(model)  # a metric it does not hold is refused now
    return KnownCost(benchmark, model)
