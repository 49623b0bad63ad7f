"""A budget: the architectures of a space that a cost model finds affordable."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from nasplug.errors import InputError
from nasplug.spaces import Genotypes, Space
from nasplug.spaces.subspace import Bound, Subspace

__all__ = ["Predicts", "affordable"]

SAMPLE = 4096
"""Draws of a space that cannot be enumerated, to begin the descent to cheap architectures with."""

DESCENT = 100
"""Rounds of that descent, at most."""


class Predicts(Protocol):
    """What a budget needs of a cost model."""

    def predict(self, genotypes: Genotypes) -> NDArray[np.float64]:
        """Return milliseconds ``(n,)``."""
        ...

    def deviation(self, genotypes: Genotypes) -> NDArray[np.float64]:
        """Return the standard deviation of each prediction in milliseconds, ``(n,)``; NaN where it has none."""
        ...


def affordable(space: Space, model: Predicts, max_ms: float, *, margin: float = 0.0, seed: int = 0) -> Subspace:
    """Return the part of a space whose predicted cost is at most ``max_ms``: search it instead of the space.

    Args:
        space: the whole.
        model: a fitted cost model of it.
        max_ms: the budget in milliseconds.
        margin: standard deviations of the prediction that are added to it. A negative one takes chances, for those
            who measure what they find before they use it.
        seed: of the search for cheap architectures where the space cannot be enumerated.

    Raises: InputError for a bound that is none, or where nothing is affordable: it names the cheapest architecture
        found and its cost; for a cost model of another space, and for a margin where predictions have no deviation.
    """
    if not (np.isfinite(max_ms) and max_ms > 0 and np.isfinite(margin)):
        raise InputError(f"a budget is finite milliseconds above zero, with a finite margin; got {max_ms}, {margin}")

    whole, made_for = _whole(space), _whole(getattr(model, "space", space))
    if made_for != whole:
        raise InputError(f"the cost model is of space {made_for.name!r}, the budget of {whole.name!r}; fit one of that")

    def cost(genotypes: Genotypes) -> NDArray[np.float64]:
        expected = model.predict(genotypes)
        return expected + margin * np.nan_to_num(model.deviation(genotypes)) if margin else expected

    known = space.all() if space.enumerable else _cheap(space, cost, max_ms, np.random.default_rng(seed))
    costs = cost(known)
    if margin and not np.nan_to_num(model.deviation(known)).any():
        raise InputError(
            f"{type(model).__name__} predicts without a standard deviation, so a margin of {margin:g} has no effect; "
            "leave it out, or take a cost model that has one, such as few-shot"
        )
    if not (costs <= max_ms).any():
        cheapest = int(np.argmin(costs))
        more = f" with a margin of {margin:g} standard deviations" if margin else ""
        raise InputError(
            f"no architecture of {space.name!r} is predicted at {max_ms:g} ms or less{more}; the cheapest found, "
            f"{space.to_string(known[cheapest : cheapest + 1])[0]}, takes {costs[cheapest]:.4g} ms"
        )
    # Two models with one bound are two rules: what is cached by space must not mix them up.
    digest = hashlib.blake2b(costs[: 1 << 16].tobytes(), digest_size=4).hexdigest()
    rule = f"cost <= {max_ms:g} ms ({type(model).__name__} {digest})"
    cheap = None if space.enumerable else known
    return Subspace(space, lambda genotypes: cost(genotypes) <= max_ms, rule, cheap, Bound(cost, max_ms))


def _whole(space: Space) -> Space:
    return space.whole if isinstance(space, Subspace) else space


def _cheap(
    space: Space, cost: Callable[[Genotypes], NDArray[np.float64]], max_ms: float, rng: np.random.Generator
) -> Genotypes:
    """Return architectures ``(k, s)`` of which many are affordable, if any are found at all."""
    rows = space.sample(SAMPLE, rng)
    costs = cost(rows)
    best = np.argsort(costs)[:64]
    rows, costs = rows[best], costs[best]
    for _ in range(DESCENT):
        if (costs <= max_ms).all():
            break
        moved = space.mutate(rows, rng)
        moved_costs = cost(moved)
        better = moved_costs < costs
        rows, costs = np.where(better[:, None], moved, rows), np.where(better, moved_costs, costs)
    return rows
