"""Architectures in the order in which independent scores of their decisions would have them.

Shapes: d decisions; o choices; R architectures asked for.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nasplug.spaces import Genotypes
from nasplug.spaces.modules.supernets import Supernet

__all__ = ["LONGEST", "ranked"]

LONGEST = 1000
"""Architectures of a ranking: more than any search buys."""


def ranked(net: Supernet, first: NDArray[np.int64], scores: NDArray[np.float64]) -> Genotypes:
    """Return architectures by the sum of their decisions' scores, the best first, ``(r, s)``.

    All of an enumerable space are compared, of another those that differ from ``first`` in one site.

    Args:
        net: what the scores are of.
        first: ``(s,)``, what has been selected: it leads, whatever its score.
        scores: ``(d, o)``; an edge that an architecture does not have counts nothing.
    """
    pool = net.space.all() if net.space.enumerable else net.space.neighbors(first)
    chosen = net.decisions(pool)
    total = np.where(chosen >= 0, scores[np.arange(scores.shape[0]), chosen], 0.0).sum(axis=1)
    order = np.argsort(-total, kind="stable")[: LONGEST + 1]
    others = pool[order]
    return np.concatenate([first[None], others[(others != first).any(axis=1)]])[:LONGEST]
