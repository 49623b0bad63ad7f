"""The part of a space that something allows: a budget, a rule of a device, a taste."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nasplug.errors import InputError
from nasplug.spaces.base import Genotypes, Space
from nasplug.spaces.graph import Graph

__all__ = ["Bound", "Subspace"]

DRAWS = 200
"""Draws of the whole space for one that is allowed; where fewer are, a walk among allowed ones takes over."""

LARGEST_BATCH = 1 << 14
"""Draws at a time where few are allowed."""

STEPS = 30
"""Moves of such a walk."""


class Bound(NamedTuple):
    """A rule that is a bound on a number: ``cost(genotypes (n, s)) (n,)`` is at most ``at_most``."""

    cost: Callable[[Genotypes], NDArray[np.float64]]
    at_most: float


class Subspace(Space):
    """The architectures of a space that a rule allows; any strategy searches it as it would the space.

    Samples, moves and neighbours are those of the space that are allowed, so that nothing else is ever proposed.
    Strings, encodings and canonical classes are the space's own.

    Where the space cannot be enumerated and fewer than one in ``DRAWS`` draws is allowed, samples come from random
    walks among allowed architectures, so not uniformly; ``known`` is where such walks begin.

    Args:
        space: the whole.
        allowed: ``(n, s) -> (n,)``, which rows are in; a pure function.
        rule: a short text that tells one rule from another, part of the name.
        known: some allowed genotypes ``(k, s)``, for a space that cannot be enumerated.
        bound: what the rule is where it is a bound, for strategies that can aim at one.

    Raises: InputError where nothing is allowed: not one architecture of an enumerable space, or none of ``known``.
    """

    def __init__(
        self,
        space: Space,
        allowed: Callable[[Genotypes], NDArray[np.bool_]],
        rule: str,
        known: Genotypes | None = None,
        bound: Bound | None = None,
    ):
        super().__init__(f"{space.name} where {rule}", space.parameters)
        self.whole, self.bound = space, bound
        self._allowed = allowed
        self._known = np.empty((0, space.n_sites), np.int64) if known is None else space.check(known)
        self._known = self._known[allowed(self._known)] if len(self._known) else self._known
        nothing = not len(self._listed[0]) if space.enumerable else not len(self._known)
        if nothing:
            raise InputError(f"no architecture of {space.name!r} is allowed where {rule}")

    def graphs(self, genotype: NDArray[np.int64]) -> tuple[Graph, ...]:
        return self.whole.graphs(genotype)

    # -- shape and membership ----------------------------------------------------------------------------------------

    @property
    def encodings(self) -> tuple[str, ...]:  # type: ignore[override]
        """Those of the whole space."""
        return self.whole.encodings

    @property
    def enumerable(self) -> bool:
        """Whether the whole space is."""
        return self.whole.enumerable

    @cached_property
    def size(self) -> int:
        """Number of allowed genotypes; of the whole space where that cannot be enumerated."""
        return len(self._listed[0]) if self.enumerable else self.whole.size

    @cached_property
    def _listed(self) -> tuple[Genotypes, NDArray[np.int64]]:
        rows, keys = self.whole._listed
        inside = self._allowed(rows)
        rows, keys = rows[inside], keys[inside]
        rows.flags.writeable = keys.flags.writeable = False
        return rows, keys

    def valid(self, genotypes: Genotypes) -> NDArray[np.bool_]:
        inside: NDArray[np.bool_] = self.whole.valid(genotypes)
        inside[inside] = self._allowed(genotypes[inside])
        return inside

    def keys(self, genotypes: Genotypes) -> NDArray[np.int64]:
        return self.whole.keys(genotypes)

    def canonical(self, genotypes: Genotypes) -> NDArray[np.int64]:
        return self.whole.canonical(genotypes)

    def representative(self, genotypes: Genotypes) -> Genotypes:
        """Return the member that stands for each row's class, ``(n, s)``; the row itself where that is not allowed."""
        standing = self.whole.representative(genotypes)
        return np.where(self._allowed(standing)[:, None], standing, genotypes)

    # -- moves -------------------------------------------------------------------------------------------------------

    def sample(self, n: int, rng: np.random.Generator) -> Genotypes:
        """Draw ``n`` genotypes independently, ``(n, s)``: as the whole space does, again until they are allowed."""
        if self.enumerable:
            return self._drawn(n, rng, self.whole.size // self.size + 1)
        return self._drawn(n, rng, 0 if self._rare else DRAWS)

    @cached_property
    def _rare(self) -> bool:
        drawn = self.whole.sample(10 * DRAWS, np.random.default_rng(0))
        return bool(DRAWS * self._allowed(drawn).mean() < 1)

    def _drawn(self, n: int, rng: np.random.Generator, draws: int) -> Genotypes:
        found = np.empty((0, self.n_sites), np.int64)
        left, size = n * draws, max(64, 2 * n)
        while len(found) < n and left > 0:
            batch = self.whole.sample(min(left, size), rng)
            left, size = left - len(batch), min(2 * size, LARGEST_BATCH)
            found = np.concatenate([found, batch[self._allowed(batch)]])[:n]
        short = n - len(found)
        if not short:
            return found
        if self.enumerable:
            rows = self._listed[0]
            return np.concatenate([found, rows[rng.integers(len(rows), size=short)]])
        walkers = np.concatenate([self._known, found])
        walkers = walkers[rng.integers(len(walkers), size=short)]
        for _ in range(STEPS):
            walkers = self._moved(walkers, self.whole.mutate(walkers, rng))
        return np.concatenate([found, walkers])

    def _moved(self, before: Genotypes, after: Genotypes) -> Genotypes:
        """Return the rows of ``after`` that are allowed, those of ``before`` elsewhere."""
        return np.where(self._allowed(after)[:, None], after, before)

    def mutate(self, genotypes: Genotypes, rng: np.random.Generator) -> Genotypes:
        """Change one site of each row, drawn again until it is allowed; a row without such a move stays."""
        children = np.array(genotypes, dtype=np.int64)
        same = np.arange(len(children))
        for _ in range(DRAWS):
            children[same] = self._moved(genotypes[same], self.whole.mutate(genotypes[same], rng))
            same = same[(children[same] == genotypes[same]).all(axis=1)]
            if not len(same):
                break
        return children

    def resample(self, genotypes: Genotypes, share: float, rng: np.random.Generator) -> Genotypes:
        return self._moved(genotypes, self.whole.resample(genotypes, share, rng))

    def crossover(self, first: Genotypes, second: Genotypes, rng: np.random.Generator) -> Genotypes:
        """Return one child a pair of rows; the first parent where the child is not allowed."""
        return self._moved(first, self.whole.crossover(first, second, rng))

    def neighbors(self, genotype: NDArray[np.int64]) -> Genotypes:
        near = self.whole.neighbors(genotype)
        return near[self._allowed(near)]

    # -- encodings and words -----------------------------------------------------------------------------------------

    def encode(self, genotypes: Genotypes, kind: str = "onehot") -> NDArray[np.float32]:
        return self.whole.encode(genotypes, kind)

    def to_params(self, genotypes: Genotypes) -> list[dict[str, Any]]:
        return self.whole.to_params(genotypes)

    def from_params(self, params: Sequence[Mapping[str, Any]]) -> Genotypes:
        return self.whole.from_params(params)

    def to_string(self, genotypes: Genotypes) -> list[str]:
        return self.whole.to_string(genotypes)

    def from_string(self, strings: Sequence[str]) -> Genotypes:
        return self.whole.from_string(strings)
