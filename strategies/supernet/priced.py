"""A price on the decisions of a supernet, from any cost model that predicts whole networks.

Shapes: n genotypes; s sites; k choices of a site.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from nasplug.errors import InputError
from nasplug.spaces import Genotypes, Space

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Predict", "Price"]

Floats = NDArray[np.float64]
Predict = Callable[[Genotypes], Floats]
"""Genotypes ``(n, s)`` to costs ``(n,)``."""


class Price:
    """What a network costs, differentiable in what its sites are.

    A cost model knows whole networks. Its multilinear extension knows mixtures, too: each site's choice is drawn by
    its weights, and the cost expected. Where every site is decided, the extension is the model itself, and its slope
    along a choice is the cost of the network with that one site changed, so any model will do, linear or not, without
    a gradient of its own; of a lookup table the extension is the table.

    Source: Single-Path NAS writes its table as a product of decisions, which gets one entry in four wrong by up to
    4.8 %. Differs: no entry is approximated.

    Args:
        space: of the networks.
        predict: genotypes ``(n, s)`` to costs above zero ``(n,)``.
    """

    def __init__(self, space: Space, predict: Predict):
        self.space, self._predict = space, predict
        self._near: dict[bytes, tuple[float, list[Floats]]] = {}
        self._starts = np.cumsum(space.n_choices) - space.n_choices

    def of(self, genotypes: Genotypes) -> Floats:
        """Return the costs ``(n,)``; raises InputError where the model gives no number above zero."""
        costs = np.asarray(self._predict(genotypes), dtype=np.float64)
        if not (np.isfinite(costs) & (costs > 0)).all():
            raise InputError(f"costs of networks are finite and above zero, the cost model says {costs.min()}")
        return costs

    def expected(self, choices: Sequence[Tensor]) -> Tensor:
        """Return the cost of a decided network, a scalar with the slopes of its decisions.

        Args:
            choices: one ``(k,)`` a site, 1 at what it is and 0 elsewhere.
        """
        cost, slopes = self.around(np.array([int(choice.argmax()) for choice in choices]))
        terms = [choice @ choice.new_tensor(slope) for choice, slope in zip(choices, slopes, strict=True)]
        return cost + sum(terms[1:], terms[0])

    def around(self, codes: NDArray[np.int64]) -> tuple[float, list[Floats]]:
        """Return the cost of a network ``(s,)``, and what each choice of each site would add to it, ``(k,)`` a site."""
        key = codes.tobytes()
        if key not in self._near:
            counts = self.space.n_choices
            rows = np.repeat(codes[None], int(counts.sum()), axis=0)
            sites = np.repeat(np.arange(len(counts)), counts)
            rows[np.arange(len(rows)), sites] = np.arange(len(rows)) - self._starts[sites]
            costs = self.of(rows)
            own = float(costs[codes[0]])
            costs[self._starts + codes] = own  # also where a model's sums round differently within a batch
            if len(self._near) > 4096:
                self._near.clear()
            self._near[key] = own, [part - own for part in np.split(costs, self._starts[1:])]
        return self._near[key]

    def range(self, rng: np.random.Generator) -> tuple[float, float]:
        """Return the cost of the cheapest and of the dearest network.

        Exact for an enumerable space and for sums over sites; else the best of some descents, site by site.
        """
        if self.space.enumerable:
            costs = self.of(self.space.all())
            return float(costs.min()), float(costs.max())
        starts = self.space.sample(4, rng)
        return min(self._climbed(row, 1) for row in starts), -min(self._climbed(row, -1) for row in starts)

    def _climbed(self, row: NDArray[np.int64], sign: int) -> float:
        best = float("inf")
        while True:
            cost, slopes = self.around(row)
            if sign * cost >= best:
                return best
            best = sign * cost
            at = [sign * slope for slope in slopes]
            # All sites at once is right for a sum; the next turn tells whether it was.
            moved = np.array([int(one.argmin()) for one in at])
            if sign * float(self.of(moved[None])[0]) >= best:
                site = int(np.argmin([one.min() for one in at]))
                moved = row.copy()
                moved[site] = int(at[site].argmin())
            row = moved
