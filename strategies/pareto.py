"""Non-dominated sorting: the order of architectures when there are several objectives."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

__all__ = ["fronts"]


def fronts(values: NDArray[np.float64]) -> Iterator[NDArray[np.intp]]:
    """Yield the rows of each non-dominated front of ``values`` ``(k, m)``, higher is better, best front first.

    A row is dominated when another is at least as good in every objective and better in one; equal rows share a
    front, whose rows come by falling sum. A front among k costs O(k) with two objectives; with others O(f k m) where
    it has f rows, vectorised over k.
    """
    left = np.lexsort(-values.T[::-1])  # a row comes before all that it dominates
    while len(left):
        best = (_front_of_two if values.shape[1] == 2 else _front)(values[left])
        rows = left[best]
        yield rows[np.lexsort((rows, -values[rows].sum(axis=1)))]
        left = left[~best]


def _front(points: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which points ``(k, m)``, sorted, are on the first front, ``(k,)``."""
    best, waiting = np.zeros(len(points), np.bool_), np.arange(len(points))
    while len(waiting):
        others, first = points[waiting], points[waiting[0]]
        best[waiting[(others == first).all(axis=1)]] = True
        waiting = waiting[~(others <= first).all(axis=1)]
    return best


def _front_of_two(points: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return the same of points ``(k, 2)``: of those that share x the best, if nothing with more x reaches its y."""
    x, y = points.T
    starts = np.r_[True, x[1:] != x[:-1]]
    group = np.flatnonzero(starts)[starts.cumsum() - 1]  # where the points of the same x begin
    above = np.maximum.accumulate(y)[group - 1]
    best: NDArray[np.bool_] = (y == y[group]) & ((group == 0) | (y > above))
    return best
