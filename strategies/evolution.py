"""Regularized evolution: the oldest member of the population leaves, not the worst."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nasplug.errors import InputError
from nasplug.spaces import Genotypes
from nasplug.strategies.base import Strategy
from nasplug.strategies.history import History

__all__ = ["RegularizedEvolution"]


@dataclass(frozen=True, kw_only=True)
class RegularizedEvolution(Strategy):
    """Mutate the winner of a tournament among the latest observations.

    The population is the last ``population`` feasible, finished observations of the history, in their order: the
    history is the queue. Until there are that many, proposals are random.

    Source: Real et al., Regularized Evolution for Image Classifier Architecture Search, AAAI 2019, algorithm 1.
    Differs: a child that is already in the history is mutated further instead of being evaluated again, and several
    children may be proposed before their results arrive. Defaults are those of the NAS-Bench-201 baseline scripts.

    Args:
        population: members alive at once.
        tournament: members drawn, without replacement, to find a parent; at most ``population``.
    """

    population: int = 10
    tournament: int = 3

    def __post_init__(self) -> None:
        if not 1 <= self.tournament <= self.population:
            raise InputError(
                f"evolution expects 1 <= tournament <= population, got {self.tournament} and {self.population}"
            )

    def _candidates(self, history: History, n: int, rng: np.random.Generator) -> Genotypes:
        alive = np.flatnonzero(history.feasible)[-self.population :]
        if len(alive) < self.population:
            return self.space.sample_distinct(n, rng, history.keys)
        drawn = np.stack([rng.permutation(alive)[: self.tournament] for _ in range(n)])
        winners = drawn[np.arange(n), np.argmax(history.values[drawn, 0], axis=1)]
        children = self.space.mutate(history.genotypes[winners], rng)
        taken = history.keys
        for _ in range(100):
            known = np.flatnonzero(np.isin(self.space.keys(children), taken))
            if not len(known):
                break
            children[known] = self.space.mutate(children[known], rng)
        return children
