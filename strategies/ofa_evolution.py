"""Once-for-all's evolution: the best of everything become parents, generation by generation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nasplug.errors import InputError
from nasplug.spaces import Genotypes
from nasplug.strategies.base import Strategy
from nasplug.strategies.history import History

__all__ = ["OFAEvolution"]

REDRAWS = 10
"""How often a child that is known already is drawn again from parents, and then mutated on."""


@dataclass(frozen=True, kw_only=True)
class OFAEvolution(Strategy):
    """Mutate and cross the best quarter of a population, which always includes the best seen so far.

    The first ``population`` observations are random. Then every ``population`` observations make a generation: its
    parents are the best ``population * parents`` feasible observations before it, the first ``mutants`` share of it are
    parents with every site drawn again with a small probability, the others have each site from either of two parents.

    Source: Cai et al., Once-for-All, ICLR 2020, and the authors' code (500 generations of 100 after the first 100, so
    50,100 evaluations). Differs: a child already in the history is drawn again instead of being evaluated again, and in
    the end mutated further; kernel and expansion of a block are drawn independently; what violates a constraint is
    known only once it is evaluated, where the authors ask a latency model first and draw again.

    Args:
        population: evaluations a generation.
        parents: share of a population that become parents.
        mutants: share of the children that are mutants, the others being crossed.
        mutation: probability of drawing a site again.

    Raises: InputError for an option out of range.
    """

    population: int = 100
    parents: float = 0.25
    mutants: float = 0.5
    mutation: float = 0.1

    def __post_init__(self) -> None:
        for name in ("parents", "mutants", "mutation"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"ofa-evolution expects {name} between 0 and 1, got {getattr(self, name)}")
        if self.population < 1 or not round(self.population * self.parents):
            raise InputError(
                f"ofa-evolution expects a population of which parents are at least one, got {self.parents} of "
                f"{self.population}"
            )

    def _candidates(self, history: History, n: int, rng: np.random.Generator) -> Genotypes:
        places = np.arange(len(history), len(history) + n)
        children = self._children(history, places, rng)
        for redraw in range(2 * REDRAWS):
            known = np.flatnonzero(np.isin(self.space.keys(children), history.keys))
            if not len(known):
                break
            again = redraw < REDRAWS
            children[known] = (
                self._children(history, places[known], rng) if again else self.space.mutate(children[known], rng)
            )
        return children

    def _children(self, history: History, places: NDArray[np.int64], rng: np.random.Generator) -> Genotypes:
        """Return children for places in the history ``(n,)``, of the generation that it is in, ``(n, s)``."""
        generation = len(history) // self.population
        before = np.flatnonzero(history.feasible[: generation * self.population])
        if not len(before):
            return self.space.sample(len(places), rng)
        best = before[np.argsort(-history.values[before, 0], kind="stable")[: round(self.population * self.parents)]]
        first, second = history.genotypes[rng.choice(best, size=(2, len(places)))]
        mutant = places % self.population < round(self.mutants * self.population)
        mutated = self.space.resample(first, self.mutation, rng)
        return np.where(mutant[:, None], mutated, self.space.crossover(first, second, rng))
