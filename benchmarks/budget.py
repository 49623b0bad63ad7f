"""A benchmark under a latency budget: the labels it has, of the architectures that a cost model finds affordable."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nasplug.benchmarks.base import Benchmark, Signal
from nasplug.benchmarks.catalog import open_benchmark
from nasplug.benchmarks.cost import cost_of
from nasplug.cost_models.base import CostModel
from nasplug.cost_models.constraint import affordable
from nasplug.spaces import Genotypes

__all__ = ["Budget", "WithinBudget"]

PREDICTED = "predicted_latency_ms"
"""The metric under which the cost model's predictions can be asked for."""


@dataclass(frozen=True)
class Budget:
    """Opens benchmarks under a latency budget: give it to :func:`compare` in the place of :func:`open_benchmark`.

    Attributes:
        max_ms: milliseconds that a prediction may be, at most.
        cost_model: what predicts: a saved cost model, FILE.npz, or a latency that the benchmark holds.
        margin: standard deviations of a prediction to keep from the budget.
    """

    max_ms: float
    cost_model: str
    margin: float = 0.0

    def __call__(self, name: str) -> WithinBudget:
        """Return the benchmark within this budget.

        Raises: InputError where nothing is affordable, DataError or UnknownNameError for a cost model that is none of
            this benchmark's; further as :func:`open_benchmark`.
        """
        return WithinBudget(open_benchmark(name), self)


class WithinBudget(Benchmark):
    """The affordable part of a benchmark: its space, what it lists and its random baselines are of that part only.

    Attributes:
        whole: the benchmark it is a part of, which answers all queries.
        cost: what predicts.
    """

    def __init__(self, whole: Benchmark, budget: Budget):
        self.whole, self.budget = whole, budget
        self.cost = cost_of(whole, budget.cost_model)
        part = affordable(whole.space, self.cost, budget.max_ms, margin=budget.margin)
        self.name, self.space = f"{whole.name} within {budget.max_ms:g} ms", part
        self.search, self.report, self.continues = whole.search, whole.report, whole.continues
        self.trains = whole.trains
        margin = f", {budget.margin:g} standard deviations kept from it" if budget.margin else ""
        shown = f"{part.size:,} of {whole.space.size:,}" if part.enumerable else "those"
        self.notes = (
            *whole.notes,
            f"Searches and random baselines are over {shown} architectures that {budget.cost_model} predicts within "
            f"{budget.max_ms:g} ms{margin}.",
        )

    def query(
        self, genotypes: Genotypes, metric: str, *, epochs: int | None = None, seed: int | None = None
    ) -> NDArray[np.float64]:
        if metric == PREDICTED:
            return self.cost.predict(genotypes)
        return self.whole.query(genotypes, metric, epochs=epochs, seed=seed)

    def seed_values(self, genotypes: Genotypes, metric: str, epochs: int | None = None) -> NDArray[np.float64]:
        return self.whole.seed_values(genotypes, metric, epochs)

    def n_seeds(self, metric: str, epochs: int | None = None) -> int:
        return self.whole.n_seeds(metric, epochs)

    def fidelities(self, metric: str) -> tuple[int, ...]:
        return self.whole.fidelities(metric)

    def costs(self) -> tuple[str, ...]:
        """Return those of the whole, behind the prediction that the budget is for; a latency it holds is no news."""
        return (PREDICTED, *self.whole.costs()) if isinstance(self.cost, CostModel) else self.whole.costs()

    def cost_s(self, genotypes: Genotypes, signal: Signal) -> NDArray[np.float64]:
        return self.whole.cost_s(genotypes, signal)

    def architectures(self) -> Genotypes | None:
        held = self.whole.architectures()
        return None if held is None else held[self.space.valid(held)]

    def provenance(self) -> dict[str, Any]:
        """Return the whole benchmark's facts and ``latency_budget``; rows and checksum are of the affordable part."""
        facts, held, model = self.whole.provenance(), self.architectures(), self.cost
        both = f"{facts.get('checksum', '')} {self.space.name}"
        fitted = {"device": model.device, "fitted_on": model.provenance} if isinstance(model, CostModel) else {}
        return facts | {
            "rows": None if held is None else len(held),
            "checksum": hashlib.blake2b(both.encode(), digest_size=16).hexdigest(),
            "latency_budget": {
                "max_latency_ms": self.budget.max_ms,
                "margin": self.budget.margin,
                "cost_model": self.budget.cost_model,
                "model": type(model).__name__,
                "affordable": self.space.size if self.space.enumerable else None,
            }
            | fitted,
        }
