"""Random search: the baseline that everything else is compared with."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nasplug.spaces import Genotypes
from nasplug.strategies.base import Strategy
from nasplug.strategies.history import History

__all__ = ["RandomSearch"]


@dataclass(frozen=True, kw_only=True)
class RandomSearch(Strategy):
    """Draw uniformly without replacement; on a table with one optimum it needs (size + 1) / 2 queries on average.

    Source: Li and Talwalkar, Random Search and Reproducibility for NAS, UAI 2019 (the search, without weight sharing).
    """

    objectives = None

    def _candidates(self, history: History, n: int, rng: np.random.Generator) -> Genotypes:
        return self.space.sample_distinct(n, rng, history.keys)
