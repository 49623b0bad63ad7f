"""Non-dominated sorting: the order of architectures when there are several objectives."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

__all__ = ["fronts"]


def fronts(values: NDArray[np.float64]) -> Iterator[NDArray[np.intp]]:
    """Yield the rows of each non-dominated front of ``values`` ``(k, m)``, higher is better, best front first.

    A row is dominated when another is at least as good in every objective and better in one; equal rows share a
    front. A front of f rows among k costs O(f k m), vectorised over k.
    """
    left = np.arange(len(values))
    while len(left):
        points = values[left]
        waiting = np.argsort(-points.sum(axis=1), kind="stable")
        front = []
        while len(waiting):
            # The greatest sum of what is left is dominated by none of it.
            first = points[waiting[0]]
            same = (points[waiting] == first).all(axis=1)
            front.append(waiting[same])
            waiting = waiting[~(same | (points[waiting] <= first).all(axis=1))]
        rows = np.concatenate(front)
        yield left[rows]
        left = np.delete(left, rows)
