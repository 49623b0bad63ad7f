"""Which architectures to measure: those that leave the least uncertainty about all the others."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["most_telling"]

NOISE = 0.1
"""Variance of a measurement, where the prior variance of a latency is 1."""

CONSTANT = 3.0
"""Prior deviation of the constant, in the same unit."""


def most_telling(features: NDArray[np.float64], candidates: NDArray[np.intp], n: int) -> NDArray[np.intp]:
    """Return up to ``n`` of the candidates, chosen one by one, each for the smallest mean posterior variance.

    Args:
        features: ``(b, r)``: prior covariances are their inner products, variances about 1.
        candidates: distinct row numbers.
        n: how many.
    """
    features = np.column_stack([features, np.full(len(features), CONSTANT)])
    u, s, _ = np.linalg.svd(features, full_matrices=False)
    features = (u * s)[:, s > 1e-4 * s[0]]  # the same inner products, in fewer columns
    covariance, spread = np.eye(features.shape[1]), features.T @ features / len(features)
    inside, chosen = features[candidates], np.zeros(len(candidates), dtype=bool)
    order = []
    for _ in range(min(n, len(candidates))):
        cross = inside @ covariance
        variance = (cross * inside).sum(axis=1) + NOISE
        gain = np.where(chosen, -np.inf, ((cross @ spread) * cross).sum(axis=1) / variance)
        best = int(gain.argmax())
        chosen[best] = True
        order.append(best)
        covariance -= np.outer(cross[best], cross[best]) / variance[best]
    return candidates[np.array(order, dtype=np.intp)]
