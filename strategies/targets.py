"""What a predictor is asked to learn from measured values: monotone transforms, the best value highest."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

__all__ = ["TARGETS", "Target", "log_regret", "rank", "zscore"]

Target = Literal["rank", "log-regret", "zscore"]


def zscore(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return values with mean 0 and deviation 1, ``(n,)``: the target of the WeakNAS paper.

    Differs: mean and deviation are those of the values seen, not of the whole table. Infinite values count as the
    furthest finite ones.
    """
    clipped = _clipped(values)
    spread = clipped.std()
    centred: NDArray[np.float64] = clipped - clipped.mean()
    return centred / spread if spread > 0 else np.zeros_like(centred)


def _clipped(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return values with infinite ones at the furthest finite one; zeros where none is finite."""
    finite = values[np.isfinite(values)]
    return np.clip(values, finite.min(), finite.max()) if len(finite) else np.zeros_like(values)


def rank(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return normal scores of the ranks, ``(n,)``; equal values share the mean of their ranks.

    Broken networks near chance accuracy then weigh no more than the step below the next better one.
    """
    _, place, ties = np.unique(values, return_inverse=True, return_counts=True)
    ranks = (ties.cumsum() - (ties - 1) / 2)[place]  # by hand: scipy.stats takes a second to load
    scores: NDArray[np.float64] = ndtri((ranks - 0.5) / len(values))
    return scores


def log_regret(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return minus the logarithm of the distance to just above the best value, standardised, ``(n,)``.

    "Just above" is a tenth of the distance from the upper quartile to the best, so the best is finite.
    """
    clipped = _clipped(values)
    margin = 0.1 * (clipped.max() - np.quantile(clipped, 0.75)) or 0.1 * np.ptp(clipped)
    return zscore(-np.log(clipped.max() - clipped + margin)) if margin > 0 else np.zeros_like(clipped)


TARGETS: Mapping[Target, Callable[[NDArray[np.float64]], NDArray[np.float64]]] = {
    "rank": rank,
    "log-regret": log_regret,
    "zscore": zscore,
}
