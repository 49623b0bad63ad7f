"""A strategy and a space of somebody else's, found by nasplug through entry points (see pyproject.toml)."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from nasplug.errors import InputError
from nasplug.spaces import Categorical, EnumeratedSpace, Genotypes, Integer
from nasplug.strategies import History, Strategy


# --8<-- [start:space]
class Encoder(EnumeratedSpace):
    """The shapes of a small transformer encoder: layers, width, heads; heads divide the width.

    A number of heads that does not divide the width stands for the next smaller one that does, so every spelling is
    an architecture, and architectures are counted once.
    """

    WIDTHS, HEADS = (32, 48, 64, 96), (1, 2, 3, 4, 6, 8)

    def __init__(self) -> None:
        layers, width, heads = (
            Integer("layers", 1, 6),
            Categorical("width", self.WIDTHS),
            Categorical("heads", self.HEADS),
        )
        super().__init__("encoder", [layers, width, heads])

    def repair(self, genotypes: Genotypes) -> Genotypes:
        fixed = np.array(genotypes, dtype=np.int64)
        fixed[:, 2] = self._heads_of[fixed[:, 1], fixed[:, 2]]
        return fixed

    def _enumerate(self) -> Genotypes:
        combinations = np.indices([p.size for p in self.parameters]).reshape(self.n_sites, -1).T
        return np.unique(self.repair(combinations), axis=0)

    @cached_property
    def _heads_of(self) -> Genotypes:
        """Code of the heads that each pair of codes, of a width and of heads, stands for."""
        divides = np.array([[width % heads == 0 for heads in self.HEADS] for width in self.WIDTHS])
        return np.maximum.accumulate(np.where(divides, np.arange(len(self.HEADS)), 0), axis=1)


# --8<-- [end:space]


# --8<-- [start:strategy]
@dataclass(frozen=True, kw_only=True)
class Marginals(Strategy):
    """Draw each site as the best architectures so far have it, independently of the other sites.

    Source: the univariate marginal distribution algorithm of Mühlenbein and Paaß, PPSN 1996. Differs: it goes on with
    all that the history holds instead of generations, and a share of uniform draws keeps every choice possible.

    Args:
        elite: share of the finished architectures that count as the best, at least two of them.
        uniform: probability of a site to be drawn uniformly instead.
        initial: random architectures before the first estimate.
    """

    elite: float = 0.2
    uniform: float = 0.1
    initial: int = 10

    def __post_init__(self) -> None:
        if not (0 < self.elite <= 1 and 0 < self.uniform <= 1 and self.initial >= 2):
            raise InputError(
                f"marginals expects elite and uniform in (0, 1] and initial >= 2, got {self.elite}, {self.uniform} "
                f"and {self.initial}"
            )

    def _candidates(self, history: History, n: int, rng: np.random.Generator) -> Genotypes:
        finished = np.flatnonzero(history.feasible)
        if len(finished) < self.initial:
            return self.space.sample_distinct(n, rng, history.keys)
        count = max(2, round(self.elite * len(finished)))
        best = finished[np.argsort(-history.values[finished, 0], kind="stable")[:count]]
        # A site of each draw is that of some of the best: their frequencies, without counting them.
        draws = 20 * n
        mixed = history.genotypes[best][
            rng.integers(count, size=(draws, self.space.n_sites)), np.arange(self.space.n_sites)
        ]
        drawn = self.space.resample(mixed, self.uniform, rng)
        return drawn[self.space.valid(drawn)]


# --8<-- [end:strategy]
