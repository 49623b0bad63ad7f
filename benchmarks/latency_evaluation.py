"""How well a cost model does from few measurements: learning curves over seeds on a table's latencies.

Shapes: n architectures; m measured ones; t tested ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nasplug.cost_models.accuracy import Accuracy, accuracy
from nasplug.cost_models.base import BankModel, CostModel, LatencyBank
from nasplug.errors import InputError
from nasplug.spaces import Genotypes

__all__ = ["Point", "learning_curve"]


@dataclass(frozen=True, eq=False)
class Point:
    """One fit: how many measurements, which seed drew them, and what it says of others, in ms ``(t,)``."""

    count: int
    seed: int
    predicted: NDArray[np.float64]
    measured: NDArray[np.float64]

    @property
    def accuracy(self) -> Accuracy:
        """How good it is."""
        return accuracy(self.predicted, self.measured)


def learning_curve(
    make: Callable[[], CostModel],
    genotypes: Genotypes,
    ms: NDArray[np.float64],
    counts: Sequence[int],
    *,
    seeds: int = 20,
    bank: LatencyBank | None = None,
    most_tested: int = 2_000,
) -> Iterator[Point]:
    """Fit a new model to random measurements of each number and seed, and test it on architectures not measured.

    Measurements of one seed are nested: those of a smaller number are part of a larger one's. The tested rows are the
    same for all numbers of a seed.

    Args:
        make: returns an unfitted model.
        genotypes: ``(n, s)``.
        ms: measured milliseconds ``(n,)``.
        counts: how many to fit on.
        seeds: draws of them.
        bank: source devices, for a model that learns from them.
        most_tested: architectures tested, at most.

    Raises: InputError where fewer than two architectures are left to test.
    """
    most = max(counts)
    if most > len(ms) - 2:
        raise InputError(
            f"{len(ms)} measurements, {most} of them to fit on, leave fewer than 2 to test; lower the counts"
        )
    prepared: CostModel | None = None
    for seed in range(seeds):
        order = np.random.default_rng(seed).permutation(len(ms))
        tested = order[most : most + most_tested]
        for count in counts:
            model = make() if prepared is None else prepared
            if isinstance(model, BankModel) and bank is not None and prepared is None:
                model.pretrain(bank)
                prepared = model  # what other devices teach does not depend on the draw
            model.fit(genotypes[order[:count]], ms[order[:count]])
            yield Point(count, seed, model.predict(genotypes[tested]), ms[tested])
