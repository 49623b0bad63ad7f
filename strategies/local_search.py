"""Local search: look at every neighbour of the best, move when one is better, start again at a local optimum."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nasplug.errors import InputError
from nasplug.spaces import Genotypes
from nasplug.strategies.base import Strategy
from nasplug.strategies.history import History

__all__ = ["LocalSearch"]


@dataclass(frozen=True, kw_only=True)
class LocalSearch(Strategy):
    """Evaluate the unseen neighbours of the best architecture in random order, moving as soon as one is better.

    When the best has no unseen neighbour, the next best that has some is searched, so the search spreads from its
    best points instead of stopping at a local optimum. It is a function of the history: no current point is kept.

    Source: White, Nolen and Savani, Exploring the Loss Landscape in Neural Architecture Search, UAI 2021. Differs:
    it moves at the first improvement (their query-until-lower variant) and restarts from known points, not from
    random ones.

    Args:
        initial: random architectures before the first move.
    """

    initial: int = 10

    def __post_init__(self) -> None:
        if self.initial < 1:
            raise InputError(f"local search expects initial >= 1, got {self.initial}")

    def _candidates(self, history: History, n: int, rng: np.random.Generator) -> Genotypes:
        started = np.flatnonzero(history.feasible)
        if len(started) < self.initial:
            return self.space.sample_distinct(n, rng, history.keys)
        near = np.empty((0, self.space.n_sites), np.int64)
        for row in started[np.argsort(-history.values[started, 0], kind="stable")]:
            unseen = self._unseen(self.space.neighbors(history.genotypes[row]), history.keys)
            near = np.concatenate([near, rng.permutation(unseen)])
            if len(near) >= n:
                break
        return near
