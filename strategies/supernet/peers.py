"""What an architecture generator is measured against: searches that start anew for every request.

Shapes: n genotypes; s sites.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nasplug.errors import InputError
from nasplug.spaces import Genotypes, Space

__all__ = ["Evolution", "evolve", "feasible"]

Score = Callable[[Genotypes], NDArray[np.float64]]
ROUNDS = 1000
"""Rounds of redrawing, after which too little is affordable for it."""


@dataclass(frozen=True)
class Evolution:
    """The settings of once-for-all's search: 100 + 500 x 100 = 50,100 scores a request."""

    population: int = 100
    generations: int = 500
    parents: float = 0.25
    mutation: float = 0.1


def evolve(
    space: Space,
    score: Score,
    allowed: Callable[[Genotypes], NDArray[np.bool_]],
    rng: np.random.Generator,
    settings: Evolution | None = None,
    start: Genotypes | None = None,
) -> tuple[NDArray[np.int64], int]:
    """Return the best architecture ``(s,)`` of an evolution, and how many were scored.

    Half of every generation are mutants of the best quarter of the last one and its parents, half are crossed; what is
    not allowed is drawn again before it is scored. Source: Cai et al., Once-for-All, ICLR 2020, and the authors' code.

    Args:
        space: where.
        score: of genotypes ``(n, s)``, higher is better, ``(n,)``.
        allowed: which genotypes meet the budget, ``(n,)``.
        rng: of everything random.
        settings: the authors' where None.
        start: allowed architectures to begin with where random ones are hardly ever allowed.

    Raises: InputError where too little is allowed to be found by drawing again.
    """
    settings = settings or Evolution()
    n = settings.population
    rows = feasible(space, n, allowed, rng, start)
    values = score(rows)
    scored = len(rows)
    for _ in range(settings.generations):
        order = np.argsort(-values, kind="stable")[: max(1, round(n * settings.parents))]
        rows, values = rows[order], values[order]
        children = []
        for count, mutant in ((n // 2, True), (n - n // 2, False)):
            kept = np.empty((0, space.n_sites), dtype=np.int64)
            for _ in range(ROUNDS):
                first, second = rows[rng.integers(len(rows), size=(2, 2 * (count - len(kept))))]
                drawn = space.resample(first, settings.mutation, rng) if mutant else space.crossover(first, second, rng)
                kept = np.concatenate([kept, drawn[allowed(drawn)]])[:count]
                if len(kept) == count:
                    break
            else:
                raise InputError(f"only {len(kept)} of {count} children of a generation meet the budget")
            children.append(kept)
        fresh = np.concatenate(children)
        rows, values = np.concatenate([rows, fresh]), np.concatenate([values, score(fresh)])
        scored += len(fresh)
    return rows[int(np.argmax(values))], scored


def feasible(
    space: Space,
    n: int,
    allowed: Callable[[Genotypes], NDArray[np.bool_]],
    rng: np.random.Generator,
    start: Genotypes | None = None,
) -> Genotypes:
    """Return ``n`` random allowed architectures ``(n, s)``, by drawing again.

    Where hardly any are allowed, they are those of ``start`` after random moves that stay inside.

    Raises: InputError where hardly any are allowed and ``start`` is not given.
    """
    found = np.empty((0, space.n_sites), dtype=np.int64)
    for _ in range(ROUNDS):
        drawn = space.sample(max(64, n), rng)
        found = np.concatenate([found, drawn[allowed(drawn)]])[:n]
        if len(found) == n:
            return found
    if start is None:
        raise InputError(f"only {len(found)} of {ROUNDS * max(64, n)} random architectures meet the budget")
    rows = start[rng.integers(len(start), size=n - len(found))]
    for _ in range(space.n_sites):
        moved = space.mutate(rows, rng)
        rows = np.where(allowed(moved)[:, None], moved, rows)
    return np.concatenate([found, rows])
